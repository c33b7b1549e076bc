"""Names of spans' attributes and events, in one place: the GenAI conventions still change."""

from typing import Final

SCOPE: Final = "perstack"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
NETWORK_TRANSPORT: Final = "network.transport"
MCP_METHOD_NAME: Final = "mcp.method.name"
MCP_SESSION_ID: Final = "mcp.session.id"

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_CACHE_CREATION_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
"""The newer name of the same; viewers read one or the other."""
COST_USD: Final = "perstack.cost.usd"
BUDGET_LIMIT: Final = "perstack.budget.limit"
"""What was used up when a budget stopped a run."""
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"

SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"

JOB_ID: Final = "perstack.job.id"
RUN_ID: Final = "perstack.run.id"
RUN_PARENT_ID: Final = "perstack.run.parent_id"
RUN_STATUS: Final = "perstack.run.status"
RUN_STEPS: Final = "perstack.run.steps"
MAX_STEPS: Final = "perstack.max_steps"
STEP_NUMBER: Final = "perstack.step.number"
STEP_FINISH: Final = "perstack.step.finish"
LLM_ATTEMPT: Final = "perstack.llm.attempt"
SKILL_NAME: Final = "perstack.skill.name"
SKILL_TYPE: Final = "perstack.skill.type"
TOOL_KIND: Final = "perstack.tool.kind"
VERIFICATION_NAME: Final = "perstack.verification.name"
VERIFICATION_PRIORITY: Final = "perstack.verification.priority"
VERIFICATION_PASSED: Final = "perstack.verification.passed"
VERIFICATION_EXIT_CODE: Final = "perstack.verification.exit_code"
CONTENT_TRUNCATED: Final = "perstack.content.truncated"
LINK_TYPE: Final = "perstack.link.type"
RESUMED_FROM_CHECKPOINT_ID: Final = "perstack.resumed_from.checkpoint_id"
RESUMED_FROM_RUN_ID: Final = "perstack.resumed_from.run_id"
RESUMED_FROM_TRACE_ID: Final = "perstack.resumed_from.trace_id"
TRANSPORT: Final = "perstack.transport"
PROVIDER_TOOL_CALLS: Final = "perstack.provider_tool_calls"

CHECKPOINT_EVENT: Final = "perstack.checkpoint"
CHECKPOINT_ID: Final = "perstack.checkpoint.id"
FALLBACK_EVENT: Final = "perstack.fallback"
RETRY_EVENT: Final = "perstack.retry"
RETRY_ATTEMPT: Final = "perstack.retry.attempt"
RETRY_DELAY_MS: Final = "perstack.retry.delay_ms"
RETRY_REASON: Final = "perstack.retry.reason"
INTERACTIVE_STOP_EVENT: Final = "perstack.interactive_stop"
INTERACTIVE_TOOL: Final = "perstack.interactive.tool"
INTERACTIVE_CALL_ID: Final = "perstack.interactive.call_id"

CANCELLED: Final = "cancelled"
TOOL_ERROR: Final = "tool_error"
VERIFICATION_FAILED: Final = "verification_failed"

PROVIDER_NAMES: Final = {
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "azure-openai": "azure.ai.openai",
    "amazon-bedrock": "aws.bedrock",
    "fireworks": "fireworks_ai",
}
FINISH_REASONS: Final = {"toolCalls": "tool_call", "contentFilter": "content_filter"}


def provider_name(provider: str) -> str:
    """The conventions' name of a provider of `perstack.toml`."""
    return PROVIDER_NAMES.get(provider, provider)


def finish_reason(reason: str) -> str:
    return FINISH_REASONS.get(reason, reason)
