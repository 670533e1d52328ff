// node run.mjs: reads what is given as one JSON object from standard input, runs every case at once, and prints one
// JSON object: name of the case -> null, or what went wrong.
import buffer from "node:buffer";
import fs from "node:fs";

globalThis.File ??= buffer.File; // the client wants it to send files; Node has it as a global from version 20 on

const cases = await import("./cases.mjs");
const given = JSON.parse(fs.readFileSync(0, "utf8"));
const results = await Promise.all(Object.entries(cases).map(async ([name, run]) => {
  try {
    await run(given);
    return [name, null];
  } catch (trouble) {
    return [name, trouble?.stack ?? String(trouble)];
  }
}));
console.log(JSON.stringify(Object.fromEntries(results)));
process.exit(0); // connections that are kept would keep it
