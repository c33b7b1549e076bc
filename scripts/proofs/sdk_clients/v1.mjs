// The TypeScript SDK of the handshake era.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  ElicitRequestSchema,
  ToolListChangedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { answer, Changes, information, play, server, transportName } from "./session.mjs";

const transport =
  transportName === "http"
    ? new StreamableHTTPClientTransport(new URL(server[0]))
    : new StdioClientTransport({ command: server[0], args: server.slice(1), env: process.env });
const changes = new Changes();
const client = new Client(information, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, answer);
client.setNotificationHandler(ToolListChangedNotificationSchema, () => changes.tell());
await client.connect(transport);
await play(
  {
    list: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: (name, given, options) =>
      client.callTool({ name, arguments: given }, undefined, options),
  },
  changes,
);
await client.close();
process.exit(0);
