"""The body of the second request of a run of two steps, which repeats what the first has."""

from typing import Any

from inline_snapshot import snapshot

from perstack.definition.model import ProviderName

BODIES: dict[ProviderName, Any] = {
    "amazon-bedrock": snapshot(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"text": "1 and 2?"}, {"cachePoint": {"type": "default"}}],
                },
                {
                    "role": "assistant",
                    "content": [
                        {
                            "reasoningContent": {
                                "reasoningText": {"text": "One and two.", "signature": "seal"}
                            }
                        },
                        {"text": "I add."},
                        {"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "toolResult": {
                                "toolUseId": "c1",
                                "content": [
                                    {"text": "3"},
                                    {
                                        "image": {
                                            "format": "png",
                                            "source": {"bytes": "iVBORw0KGgo="},
                                        }
                                    },
                                ],
                            }
                        },
                        {"cachePoint": {"type": "default"}},
                    ],
                },
            ],
            "system": [{"text": "..."}, {"cachePoint": {"type": "default"}}, {"text": "..."}],
            "inferenceConfig": {"maxTokens": 64000},
            "additionalModelRequestFields": {
                "thinking": {"type": "enabled", "budget_tokens": 2048}
            },
            "toolConfig": {
                "tools": [
                    {
                        "toolSpec": {
                            "name": "add",
                            "description": "add",
                            "inputSchema": {"json": {"type": "object", "properties": {}}},
                        }
                    }
                ]
            },
        }
    ),
    "anthropic": snapshot(
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 64000,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "1 and 2?", "cache_control": {"type": "ephemeral"}}
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "I must look.", "signature": "seal"},
                        {"type": "text", "text": "I look. "},
                        {
                            "type": "server_tool_use",
                            "id": "srv1",
                            "name": "web_search",
                            "input": {"query": "sun"},
                        },
                        {
                            "type": "web_search_tool_result",
                            "tool_use_id": "srv1",
                            "content": [
                                {
                                    "type": "web_search_result",
                                    "url": "https://sun.example",
                                    "title": "Sun",
                                    "encrypted_content": "opaque",
                                }
                            ],
                        },
                        {
                            "type": "text",
                            "text": "The sun is hot",
                            "citations": [
                                {
                                    "type": "web_search_result_location",
                                    "url": "https://sun.example",
                                    "title": "Sun",
                                    "encrypted_index": "e1",
                                    "cited_text": "It is hot.",
                                }
                            ],
                        },
                        {"type": "text", "text": "."},
                        {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "c1",
                            "content": [
                                {"type": "text", "text": "3"},
                                {
                                    "type": "image",
                                    "source": {
                                        "type": "base64",
                                        "media_type": "image/png",
                                        "data": "iVBORw0KGgo=",
                                    },
                                },
                            ],
                            "cache_control": {"type": "ephemeral"},
                        }
                    ],
                },
            ],
            "system": [
                {"type": "text", "text": "...", "cache_control": {"type": "ephemeral"}},
                {
                    "type": "text",
                    "text": "...",
                },
            ],
            "thinking": {"type": "enabled", "budget_tokens": 2048},
            "tools": [
                {
                    "type": "custom",
                    "name": "add",
                    "description": "add",
                    "input_schema": {"type": "object", "properties": {}},
                },
                {"type": "web_search_20250305", "name": "web_search"},
            ],
            "container": "container_1",
            "stream": True,
        }
    ),
    "azure-openai": snapshot(
        {
            "model": "gpt-5",
            "input": [
                {"role": "system", "content": "..."},
                {"role": "user", "content": "1 and 2?"},
                {"type": "reasoning", "id": "rs1", "summary": [], "encrypted_content": "seal"},
                {
                    "type": "web_search_call",
                    "id": "ws1",
                    "status": "completed",
                    "action": {
                        "type": "search",
                        "query": "sun",
                        "sources": [{"url": "https://sun.example"}],
                    },
                },
                {
                    "type": "image_generation_call",
                    "id": "ig1",
                    "status": "completed",
                    "result": "iVBORw0KGgo=",
                },
                {
                    "type": "message",
                    "id": "msg1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "The sun is hot.",
                            "annotations": [
                                {
                                    "type": "url_citation",
                                    "url": "https://sun.example",
                                    "title": "Sun",
                                    "start_index": 4,
                                    "end_index": 14,
                                }
                            ],
                        }
                    ],
                },
                {
                    "type": "function_call",
                    "id": "fc1",
                    "call_id": "c1",
                    "name": "add",
                    "arguments": '{"a": 1}',
                    "status": "completed",
                },
                {
                    "type": "function_call_output",
                    "call_id": "c1",
                    "output": """\
3
[The content of this result follows after the results.]\
""",
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Content of the result of add:"},
                        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="},
                    ],
                },
            ],
            "store": False,
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "tools": [
                {
                    "type": "function",
                    "strict": False,
                    "name": "add",
                    "description": "add",
                    "parameters": {"type": "object", "properties": {}},
                },
                {"type": "web_search_preview"},
            ],
            "stream": True,
        }
    ),
    "deepseek": snapshot(
        {
            "model": "deepseek-chat",
            "messages": [
                {"role": "system", "content": "..."},
                {"role": "user", "content": "1 and 2?"},
                {
                    "role": "assistant",
                    "content": "I add.",
                    "reasoning_content": "One and two.",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "add", "arguments": '{"a": 1}'},
                        }
                    ],
                },
                {
                    "role": "tool",
                    "tool_call_id": "c1",
                    "content": """\
3
[The content of this result follows after the results.]\
""",
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Content of the result of add:"},
                        {
                            "type": "image_url",
                            "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                        },
                    ],
                },
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "add",
                        "description": "add",
                        "parameters": {"type": "object", "properties": {}},
                    },
                }
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ),
    "fireworks": snapshot(
        {
            "model": "accounts/fireworks/models/kimi-k2p5",
            "messages": [
                {"role": "system", "content": "..."},
                {"role": "user", "content": "1 and 2?"},
                {
                    "role": "assistant",
                    "content": "I add.",
                    "reasoning_content": "One and two.",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "add", "arguments": '{"a": 1}'},
                        }
                    ],
                },
                {
                    "role": "tool",
                    "tool_call_id": "c1",
                    "content": """\
3
[The content of this result follows after the results.]\
""",
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Content of the result of add:"},
                        {
                            "type": "image_url",
                            "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                        },
                    ],
                },
            ],
            "reasoning_effort": "low",
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "add",
                        "description": "add",
                        "parameters": {"type": "object", "properties": {}},
                    },
                }
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ),
    "google": snapshot(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "1 and 2?"}]},
                {
                    "role": "model",
                    "parts": [
                        {
                            "toolCall": {
                                "toolType": "GOOGLE_SEARCH_WEB",
                                "args": {"queries": ["sun"]},
                                "id": "t1",
                            },
                            "thoughtSignature": "seal1",
                        },
                        {
                            "toolResponse": {
                                "toolType": "GOOGLE_SEARCH_WEB",
                                "response": {"n": 1},
                                "id": "t1",
                            },
                            "thoughtSignature": "seal2",
                        },
                        {"executableCode": {"language": "PYTHON", "code": "plot()"}},
                        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "done"}},
                        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                        {"text": "Ja: die Sonne ist heiß."},
                        {
                            "functionCall": {"name": "add", "args": {"a": 1}, "id": "c1"},
                            "thoughtSignature": "seal3",
                        },
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {
                            "functionResponse": {
                                "id": "c1",
                                "name": "add",
                                "response": {
                                    "output": """\
3
[The content of this result follows after the results.]\
"""
                                },
                            }
                        },
                        {"text": "Content of the result of add:"},
                        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                    ],
                },
            ],
            "systemInstruction": {"parts": [{"text": "..."}]},
            "tools": [
                {
                    "functionDeclarations": [
                        {
                            "name": "add",
                            "description": "add",
                            "parametersJsonSchema": {"type": "object", "properties": {}},
                        }
                    ]
                },
                {"googleSearch": {}},
                {"codeExecution": {}},
            ],
            "toolConfig": {"includeServerSideToolInvocations": True},
            "generationConfig": {
                "thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": True}
            },
        }
    ),
    "google-vertex": snapshot(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "1 and 2?"}]},
                {
                    "role": "model",
                    "parts": [
                        {"text": "The sun is hot."},
                        {
                            "functionCall": {"name": "add", "args": {"a": 1}},
                            "thoughtSignature": "seal",
                        },
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {
                            "functionResponse": {
                                "name": "add",
                                "response": {
                                    "output": """\
3
[The content of this result follows after the results.]\
"""
                                },
                            }
                        },
                        {"text": "Content of the result of add:"},
                        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                    ],
                },
            ],
            "systemInstruction": {"parts": [{"text": "..."}]},
            "tools": [
                {
                    "functionDeclarations": [
                        {
                            "name": "add",
                            "description": "add",
                            "parametersJsonSchema": {"type": "object", "properties": {}},
                        }
                    ]
                },
                {"enterpriseWebSearch": {}},
            ],
            "generationConfig": {
                "thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": True}
            },
        }
    ),
    "ollama": snapshot(
        {
            "model": "llama3",
            "messages": [
                {"role": "system", "content": "..."},
                {"role": "user", "content": "1 and 2?"},
                {
                    "role": "assistant",
                    "content": "I add.",
                    "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}],
                },
                {
                    "role": "tool",
                    "content": """\
3
[The content of this result follows after the results.]\
""",
                },
                {
                    "role": "user",
                    "content": "Content of the result of add:",
                    "images": ["iVBORw0KGgo="],
                },
            ],
            "stream": True,
            "think": True,
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "add",
                        "description": "add",
                        "parameters": {"type": "object", "properties": {}},
                    },
                }
            ],
        }
    ),
    "openai": snapshot(
        {
            "model": "gpt-5",
            "input": [
                {"role": "system", "content": "..."},
                {"role": "user", "content": "1 and 2?"},
                {"type": "reasoning", "id": "rs1", "summary": [], "encrypted_content": "seal"},
                {
                    "type": "web_search_call",
                    "id": "ws1",
                    "status": "completed",
                    "action": {
                        "type": "search",
                        "query": "sun",
                        "sources": [{"url": "https://sun.example"}],
                    },
                },
                {
                    "type": "image_generation_call",
                    "id": "ig1",
                    "status": "completed",
                    "result": "iVBORw0KGgo=",
                },
                {
                    "type": "message",
                    "id": "msg1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "The sun is hot.",
                            "annotations": [
                                {
                                    "type": "url_citation",
                                    "url": "https://sun.example",
                                    "title": "Sun",
                                    "start_index": 4,
                                    "end_index": 14,
                                }
                            ],
                        }
                    ],
                },
                {
                    "type": "function_call",
                    "id": "fc1",
                    "call_id": "c1",
                    "name": "add",
                    "arguments": '{"a": 1}',
                    "status": "completed",
                },
                {
                    "type": "function_call_output",
                    "call_id": "c1",
                    "output": """\
3
[The content of this result follows after the results.]\
""",
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Content of the result of add:"},
                        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="},
                    ],
                },
            ],
            "store": False,
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content", "web_search_call.action.sources"],
            "tools": [
                {
                    "type": "function",
                    "strict": False,
                    "name": "add",
                    "description": "add",
                    "parameters": {"type": "object", "properties": {}},
                },
                {"type": "web_search"},
                {"type": "image_generation"},
            ],
            "stream": True,
        }
    ),
}
