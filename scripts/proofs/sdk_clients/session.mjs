// The session that each TypeScript client goes through. Prints one line of JSON for each step.
import { appendFileSync } from "node:fs";

const GUEST = '\n[experts."guest"]\ndescription = "Comes later."\ninstruction = "Greet."\n';
const PATIENCE_MS = 20_000;

export const [transportName, era, configPath, ...server] = process.argv.slice(2);
export const information = { name: "perstack-proof", version: "1" };

export const answer = ({ params }) => {
  const [field] = Object.keys(params.requestedSchema.properties);
  return { action: "accept", content: { [field]: "Ada" } };
};

// `client` has list(), call(name, arguments, options), and for those who can task(name, arguments);
// `changes.next()` resolves when the server says that its tools have changed.
export const play = async (client, changes) => {
  await step("list", async () => {
    const names = await client.list();
    expect(names.includes("greeter") && names.includes("perstack_job"), names);
    return `${names.length} tools`;
  });
  await step("call", async () => {
    const result = await client.call("greeter", { query: "hello" });
    expect(result.content[0].text === "Hello.", result);
    expect(result.structuredContent.status === "completed", result);
  });
  await step("progress", async () => {
    const seen = [];
    const onprogress = (notification) => seen.push(notification.progress);
    const result = await client.call("stepper", { query: "go" }, { onprogress });
    expect(result.structuredContent.status === "completed", result);
    expect(seen.length >= 3 && seen.every((value, at) => at === 0 || value > seen[at - 1]), seen);
    return `${seen.length} notifications`;
  });
  if (client.task) {
    await step("task", async () => {
      const { taskId, result } = await client.task("worker", { query: "work" });
      expect(typeof taskId === "string", taskId);
      expect(result.content[0].text === "Worked.", result);
    });
    await step("task question", async () => {
      const { taskId, result } = await client.task("slowasker", { query: "ask me later" });
      expect(typeof taskId === "string", taskId);
      expect(result.content[0].text === "Hello, Ada!", result);
    });
  }
  await step("elicitation", async () => {
    const result = await client.call("asker", { query: "ask me" });
    expect(result.content[0].text === "Hello, Ada!", result);
  });
  await step("cancel", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 700);
    let failed = false;
    await client.call("sleeper", { query: "sleep" }, { signal: abort.signal }).catch(() => {
      failed = true;
    });
    expect(failed, "the call was not aborted");
    await until(async () => {
      const { structuredContent } = await client.call("perstack_jobs", {});
      const job = structuredContent.jobs.find(({ expert }) => expert === "sleeper");
      return job && job.status === "cancelled";
    }, "the job is still running");
  });
  await step("list_changed", async () => {
    const changed = changes.next();
    const began = Date.now();
    appendFileSync(configPath, GUEST);
    await Promise.race([changed, late("no notification")]);
    const milliseconds = Date.now() - began;
    const names = await client.list();
    expect(names.includes("guest"), names);
    expect(milliseconds < 2_000, `it took ${milliseconds} ms`);
    return `${milliseconds} ms`;
  });
};

export class Changes {
  #waiting = [];
  tell() {
    this.#waiting.splice(0).forEach((resolve) => resolve());
  }
  next() {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

export const expect = (holds, seen) => {
  if (!holds) throw new Error(`unexpected: ${JSON.stringify(seen)}`);
};

const step = async (name, act) => {
  try {
    const note = await Promise.race([act(), late("no answer")]);
    report({ step: name, ok: true, note: note ?? "" });
  } catch (error) {
    report({ step: name, ok: false, note: String(error?.stack ?? error).slice(0, 600) });
  }
};

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const late = (why) =>
  new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`${why} in ${PATIENCE_MS} ms`)), PATIENCE_MS).unref();
  });

const until = async (holds, otherwise) => {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(otherwise);
};
