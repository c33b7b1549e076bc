// The TypeScript SDK of the stateless era, which can also speak as the older one did.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { createTaskSessionFromClient, resultFromTaskOutcome } from "@modelcontextprotocol/ext-tasks/client";
import { answer, Changes, era, information, play, server, transportName } from "./session.mjs";

const TASKS = "io.modelcontextprotocol/tasks";
const capabilities = { elicitation: { form: {} }, extensions: { [TASKS]: {} } };
const transport =
  transportName === "http"
    ? new StreamableHTTPClientTransport(new URL(server[0]))
    : new StdioClientTransport({ command: server[0], args: server.slice(1), env: process.env });
const changes = new Changes();
const client = new Client(information, {
  // The SDK's own codec refuses a task for a result, so only the task session declares them.
  capabilities: { elicitation: { form: {} } },
  versionNegotiation: { mode: era },
  listChanged: { tools: { onChanged: () => changes.tell() } },
});
client.setRequestHandler("elicitation/create", answer);
await client.connect(transport);

const adapter = {
  list: async () => (await client.listTools(undefined, { cacheMode: "refresh" })).tools.map((tool) => tool.name),
  call: (name, given, options) => client.callTool({ name, arguments: given }, options),
};

// The SDK has no raw requests, so the answers to the task session's own are taken off the wire.
const dispatchOver = (wire) => {
  const waiting = new Map();
  const deliver = wire.onmessage;
  wire.onmessage = (message, extra) => {
    const resolve = waiting.get(message.id);
    if (!resolve) return deliver(message, extra);
    waiting.delete(message.id);
    const { result, error } = message;
    return resolve(error ? { kind: "error", error } : { kind: "result", result });
  };
  let count = 0;
  return (request) =>
    new Promise((resolve, reject) => {
      count += 1;
      const id = `task-${count}`;
      waiting.set(id, resolve);
      wire.send({ jsonrpc: "2.0", id, ...request }).catch(reject);
    });
};

if (era === "auto") {
  const session = createTaskSessionFromClient(client, {
    endpointId: "perstack-proof",
    onInputRequest: async (request) => answer(request),
    rawDispatch: dispatchOver(transport),
    v2RequestFraming: {
      protocolVersion: "2026-07-28",
      clientInfo: information,
      clientCapabilities: capabilities,
    },
  });
  adapter.task = async (name, given) => {
    const execution = await session.callTool(name, given);
    const { outcome } = await execution.settle();
    return { taskId: execution.handle?.taskId, result: resultFromTaskOutcome(outcome) };
  };
}
await play(adapter, changes);
await client.close();
process.exit(0);
