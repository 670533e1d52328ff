// What users of the OpenAI client do, as they do it: each exported function is one test, run by run.mjs.
// `given` is what test_openai_client.py has prepared: base_url, keys of accounts, files.
import assert from "node:assert/strict";
import fs from "node:fs";
import OpenAI from "openai";

const say = (text) => [{role: "user", content: text}];

// A client, and how many requests it has sent.
function connect(given, key = "user", options = {}) {
  const sent = {count: 0};
  const fetch = (...what) => {
    sent.count += 1;
    return globalThis.fetch(...what);
  };
  return [new OpenAI({baseURL: given.base_url, apiKey: given.keys[key], fetch, ...options}), sent];
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("nothing was thrown");
}

async function gather(stream) {
  const found = [];
  for await (const event of stream) found.push(event);
  return found;
}

// --- Chat

export async function chat_answers(given) {
  const [client] = connect(given);
  const answer = await client.chat.completions.create({model: "parrot", messages: say("Hello there."), temperature: 0.5});
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices[0].message.content, "You said: Hello there.");
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.deepEqual([answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens], [2, 4, 6]);
}

export async function chat_tells_what_it_cost_and_its_request(given) {
  const [client] = connect(given);
  const {data, response, request_id} =
      await client.chat.completions.create({model: "parrot", messages: say("Cost?")}).withResponse();
  assert.equal(data.choices[0].message.content, "You said: Cost?");
  assert.equal(response.headers.get("turnpike-cost-usd"), "0.000031");
  assert.equal(response.headers.get("turnpike-provider"), "first");
  assert.ok(request_id);
  assert.ok(response.headers.get("x-ratelimit-limit-requests"));
}

export async function chat_streams(given) {
  const [client] = connect(given);
  const stream = await client.chat.completions.create({model: "parrot", messages: say("Stream it."), stream: true});
  const chunks = await gather(stream);
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), "You said: Stream it.");
  assert.ok(chunks.length >= 5, "in pieces");
  assert.ok(chunks.every((chunk) => !chunk.usage), "nobody asked for usage");
}

export async function chat_streams_usage_to_who_asks(given) {
  const [client] = connect(given);
  const stream = await client.chat.completions.create(
      {model: "parrot", messages: say("Count it."), stream: true, stream_options: {include_usage: true}});
  const chunks = await gather(stream);
  const last = chunks.at(-1);
  assert.deepEqual(last.choices, []);
  assert.deepEqual([last.usage.prompt_tokens, last.usage.completion_tokens], [2, 4]);
  assert.equal(last.usage.turnpike.cost_usd, "0.000042");
}

export async function chat_helper_gathers_a_stream(given) {
  const [client] = connect(given);
  const whole = await client.chat.completions.stream({model: "parrot", messages: say("Gather it.")}).finalChatCompletion();
  assert.equal(whole.choices[0].message.content, "You said: Gather it.");
}

const TOOLS = [{
  type: "function",
  function: {name: "look", description: "Looks", parameters: {type: "object", properties: {said: {type: "string"}}}},
}];

export async function chat_calls_tools(given) {
  const [client] = connect(given);
  const messages = say("Look for it.");
  const first = await client.chat.completions.create({model: "parrot", messages, tools: TOOLS, tool_choice: "auto"});
  assert.equal(first.choices[0].finish_reason, "tool_calls");
  const call = first.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "look");
  assert.deepEqual(JSON.parse(call.function.arguments), {said: "Look for it."});
  messages.push(first.choices[0].message, {role: "tool", tool_call_id: call.id, content: "It is here."});
  const second = await client.chat.completions.create({model: "parrot", messages, tools: TOOLS});
  assert.equal(second.choices[0].message.content, "You said: It is here.");
}

export async function chat_streams_tool_calls(given) {
  const [client] = connect(given);
  const stream = await client.chat.completions.create(
      {model: "parrot", messages: say("Look in pieces."), tools: TOOLS, stream: true});
  let name = "", text = "";
  for (const chunk of await gather(stream)) {
    for (const call of chunk.choices[0]?.delta.tool_calls ?? []) {
      name += call.function.name ?? "";
      text += call.function.arguments ?? "";
    }
  }
  assert.equal(name, "look");
  assert.deepEqual(JSON.parse(text), {said: "Look in pieces."});
}

export async function chat_answers_in_json(given) {
  const [client] = connect(given);
  const answer = await client.chat.completions.create(
      {model: "parrot", messages: say("As JSON."), response_format: {type: "json_object"}});
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), {said: "As JSON."});
}

export async function chat_takes_pictures(given) {
  const [client] = connect(given);
  const url = `data:image/png;base64,${fs.readFileSync(given.files.picture).toString("base64")}`;
  const content = [{type: "text", text: "What is it?"}, {type: "image_url", image_url: {url, detail: "low"}}];
  const answer = await client.chat.completions.create({model: "parrot", messages: [{role: "user", content}]});
  assert.equal(answer.choices[0].message.content, "You said: What is it? I see 1 picture.");
}

export async function chat_gives_several_answers(given) {
  const [client] = connect(given);
  const answer = await client.chat.completions.create({model: "parrot", messages: say("Twice."), n: 2});
  assert.equal(answer.choices.length, 2);
  assert.equal(answer.usage.completion_tokens, 6);
}

export async function chat_is_left_in_the_middle(given) {
  const [client] = connect(given);
  const stream = await client.chat.completions.create({model: "parrot", messages: say("Leave me."), stream: true});
  let seen = 0;
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content && ++seen === 2) break; // by which the client aborts
  }
  assert.equal(seen, 2);
}

export async function many_at_once(given) {
  const [client] = connect(given);
  const numbers = Array.from({length: 32}, (_, at) => at);
  const answers = await Promise.all(
      numbers.map((at) => client.chat.completions.create({model: "parrot", messages: say(`Number ${at}`)})));
  assert.deepEqual(answers.map((answer) => answer.choices[0].message.content), numbers.map((at) => `You said: Number ${at}`));
}

// --- Refusals, as its typed exceptions

export async function a_bad_key(given) {
  const [client, sent] = connect(given, "bad");
  const error = await failure(client.chat.completions.create({model: "parrot", messages: say("x")}));
  assert.ok(error instanceof OpenAI.AuthenticationError);
  assert.equal(error.status, 401);
  assert.equal(error.code, "invalid_api_key");
  assert.equal(sent.count, 1);
}

export async function an_unknown_model(given) {
  const [client] = connect(given);
  const error = await failure(client.chat.completions.create({model: "gpt-unknown", messages: say("x")}));
  assert.ok(error instanceof OpenAI.NotFoundError);
  assert.equal(error.code, "model_not_found");
  assert.equal(error.param, "model");
}

export async function a_quota_that_is_used_up_is_not_retried(given) {
  const [client, sent] = connect(given, "spent");
  for (const stream of [false, true]) {
    const error = await failure(client.chat.completions.create({model: "parrot", messages: say("x"), stream}));
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.equal(error.code, "insufficient_quota");
    assert.equal(error.type, "insufficient_quota");
    assert.equal(error.headers.get("x-should-retry"), "false");
  }
  assert.equal(sent.count, 2, "x-should-retry says that it is futile");
}

export async function too_fast_is_retried_when_told(given) {
  const [client, sent] = connect(given, "slow", {maxRetries: 5});
  await Promise.all([1, 2].map(() => client.chat.completions.create({model: "parrot", messages: say("Slowly.")})));
  assert.ok(sent.count > 2, "one came too early, and again");
  const [hasty] = connect(given, "slow", {maxRetries: 0});
  const error = await failure(Promise.all(
      [1, 2].map(() => hasty.chat.completions.create({model: "parrot", messages: say("At once.")}))));
  assert.ok(error instanceof OpenAI.RateLimitError);
  assert.equal(error.code, "rate_limit_exceeded");
  assert.ok(Number(error.headers.get("retry-after")) >= 1);
}

export async function a_bad_request(given) {
  const [client, sent] = connect(given);
  const error = await failure(client.chat.completions.create({model: "parrot", messages: []}));
  assert.ok(error instanceof OpenAI.BadRequestError);
  assert.equal(error.param, "messages");
  assert.equal(error.type, "invalid_request_error");
  assert.equal(sent.count, 1);
}

export async function an_upstream_that_stumbles_is_asked_again(given) {
  const [client] = connect(given);
  const answer = await client.chat.completions.create({model: "parrot", messages: say("Stumble.")});
  assert.equal(answer.choices[0].message.content, "You said: Stumble.");
}

export async function an_upstream_that_only_fails(given) {
  const [client, sent] = connect(given, "user", {maxRetries: 1});
  const error = await failure(client.chat.completions.create({model: "parrot", messages: say("Fail.")}));
  assert.ok(error instanceof OpenAI.InternalServerError);
  assert.equal(error.status, 502);
  assert.equal(sent.count, 2, "retried by the client itself");
}

export async function a_stream_that_fails_in_the_middle(given) {
  const [client] = connect(given);
  const stream = await client.chat.completions.create({model: "parrot", messages: say("Break off."), stream: true});
  let text = "";
  const error = await failure((async () => {
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
  })());
  assert.ok(error instanceof OpenAI.APIError);
  assert.ok(error.message);
  assert.equal(text, "You said:");
}

// --- The other operations

export async function completions_answer(given) {
  const [client] = connect(given);
  const answer = await client.completions.create({model: "parrot", prompt: "Once upon", max_tokens: 3});
  assert.equal(answer.object, "text_completion");
  assert.equal(answer.choices[0].text, "You said: Once");
  assert.equal(answer.choices[0].finish_reason, "length");
}

export async function completions_stream(given) {
  const [client] = connect(given);
  const chunks = await gather(await client.completions.create({model: "parrot", prompt: "Once upon", stream: true}));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), "You said: Once upon");
}

export async function responses_answer(given) {
  const [client] = connect(given);
  const answer = await client.responses.create({model: "parrot", input: "Respond to me.", instructions: "Be brief."});
  assert.equal(answer.object, "response");
  assert.equal(answer.output_text, "You said: Respond to me.");
  assert.equal(answer.usage.output_tokens, 5);
}

export async function responses_stream(given) {
  const [client] = connect(given);
  const events = await gather(await client.responses.create({model: "parrot", input: "Respond in pieces.", stream: true}));
  const text = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta).join("");
  assert.equal(text, "You said: Respond in pieces.");
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal(events.at(-1).response.usage.output_tokens, 5);
}

export async function embeddings_come_in_both_encodings(given) {
  const [client] = connect(given);
  const input = ["one text", "another text"];
  const packed = await client.embeddings.create({model: "embedder", input}); // the client asks for base64 and unpacks it
  const plain = await client.embeddings.create({model: "embedder", input, encoding_format: "float"});
  assert.deepEqual(packed.data.map((each) => each.embedding), plain.data.map((each) => each.embedding));
  assert.equal(packed.data.length, 2);
  assert.equal(packed.data[0].embedding.length, 8);
  assert.equal(packed.usage.prompt_tokens, 4);
}

export async function images_are_generated(given) {
  const [client] = connect(given);
  const made = await client.images.generate({model: "painter", prompt: "A red square", n: 2, size: "1024x1024"});
  assert.equal(made.data.length, 2);
  assert.equal(Buffer.from(made.data[0].b64_json, "base64").subarray(1, 4).toString(), "PNG");
}

export async function images_are_edited(given) {
  const [client] = connect(given);
  const made = await client.images.edit(
      {model: "retoucher", prompt: "Make it blue", image: fs.createReadStream(given.files.picture)});
  assert.equal(Buffer.from(made.data[0].b64_json, "base64").subarray(1, 4).toString(), "PNG");
}

export async function speech_is_spoken(given) {
  const [client] = connect(given);
  const answer = await client.audio.speech.create(
      {model: "speaker", voice: "alloy", input: "four words are spoken", response_format: "wav"});
  assert.equal(answer.headers.get("content-type"), "audio/wav");
  const sound = Buffer.from(await answer.arrayBuffer());
  assert.equal(sound.subarray(0, 4).toString(), "RIFF");
  assert.equal(sound.length, 44 + 4 * 1600);
}

export async function speech_is_written_down(given) {
  const [client] = connect(given);
  const file = () => fs.createReadStream(given.files.sound);
  const answer = await client.audio.transcriptions.create({model: "listener", file: file()});
  assert.equal(answer.text, "I heard 500 ms.");
  const verbose = await client.audio.transcriptions.create({model: "listener", file: file(), response_format: "verbose_json"});
  assert.equal(verbose.duration, 0.5);
  const text = await client.audio.transcriptions.create({model: "listener", file: file(), response_format: "text"});
  assert.equal(text.trim(), "I heard 500 ms.");
}

export async function speech_is_written_down_as_it_goes(given) {
  const [client] = connect(given);
  const events = await gather(await client.audio.transcriptions.create(
      {model: "listener", file: fs.createReadStream(given.files.sound), stream: true}));
  assert.equal(events.at(-1).type, "transcript.text.done");
  assert.equal(events.at(-1).text, "I heard 500 ms.");
}

export async function models_are_listed(given) {
  const [client] = connect(given);
  const names = (await gather(client.models.list())).map((model) => model.id);
  assert.deepEqual(names.sort(), ["embedder", "listener", "painter", "parrot", "retoucher", "speaker"]);
  assert.equal((await client.models.retrieve("parrot")).id, "parrot");
}
