// Bodies and streams are written after the examples of platform.claude.com/docs (messages, tool use,
// streaming).
#include "provider/anthropic_wire.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace turnpike::provider {
namespace {

using policy::FailureClass;

constexpr std::int64_t kCreated = 1'790'000'000;

// The request of a chat with these fields beside one message, or the refusal.
std::string body_of(const std::string& fields) {
  const auto body = make_anthropic_body(R"({"model":"ours","messages":[{"role":"user","content":"hi"}])" +
                                            (fields.empty() ? "" : "," + fields) + "}",
                                        "claude", 0);
  if (!body) return "refused " + body.error().param + ": " + body.error().message;
  constexpr std::string_view kEnd =
      R"(,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]})";
  EXPECT_TRUE(body->ends_with(kEnd)) << *body;
  return body->substr(0, body->size() - kEnd.size()) + "}";
}

// `system` and `messages` of a chat with these messages, or the refusal.
std::string messages_of(const std::string& messages) {
  const auto body = make_anthropic_body(R"({"messages":)" + messages + "}", "claude", 0);
  if (!body) return "refused " + body.error().param + ": " + body.error().message;
  constexpr std::string_view kBegin = R"({"model":"claude","max_tokens":4096,)";
  EXPECT_TRUE(body->starts_with(kBegin)) << *body;
  return "{" + body->substr(kBegin.size());
}

std::string refusal_of(const std::string& fields) {
  const std::string body = body_of(fields);
  return body.starts_with("refused ") ? body.substr(8, body.find(':') - 8) : body;
}

TEST(AnthropicRequest, NamesTheModelOfTheRouteAndAlwaysALimit) {
  EXPECT_EQ(body_of(""), R"({"model":"claude","max_tokens":4096})");
  EXPECT_EQ(body_of(R"("max_tokens":5)"), R"({"model":"claude","max_tokens":5})");
  EXPECT_EQ(body_of(R"("max_tokens":null,"max_completion_tokens":6)"),
            R"({"model":"claude","max_tokens":6})");
  EXPECT_EQ(refusal_of(R"("max_tokens":5,"max_completion_tokens":6)"), "max_tokens");
  EXPECT_EQ(refusal_of(R"("max_tokens":0)"), "max_tokens");
  EXPECT_EQ(refusal_of(R"("max_tokens":1.5)"), "max_tokens");
  const auto held = make_anthropic_body(R"({"messages":[{"role":"user","content":"x"}]})", "claude", 77);
  ASSERT_TRUE(held);
  EXPECT_TRUE(held->contains(R"("max_tokens":77)")) << *held;
}

TEST(AnthropicRequest, SystemMessagesBecomeTheSystemInTheirOrder) {
  EXPECT_EQ(
      messages_of(
          R"([{"role":"system","content":"a"},{"role":"user","content":"x"},{"role":"developer","content":[{"type":"text","text":"b"}]}])"),
      R"({"system":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]})");
}

TEST(AnthropicRequest, NeighboursOfOneRoleAreMerged) {
  EXPECT_EQ(
      messages_of(
          R"([{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":""},{"role":"user","content":"c"},{"role":"assistant","content":"d"}])"),
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"text","text":"c"}]},{"role":"assistant","content":[{"type":"text","text":"d"}]}]})");
}

TEST(AnthropicRequest, ToolCallsAndTheirResultsBecomeBlocks) {
  EXPECT_EQ(
      messages_of(
          R"([{"role":"user","content":"weather?"},
              {"role":"assistant","content":null,"refusal":null,"annotations":[],"tool_calls":[
                {"id":"t1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}},
                {"id":"t2","type":"function","function":{"name":"clock","arguments":""}}]},
              {"role":"tool","tool_call_id":"t1","content":"sun"},
              {"role":"tool","tool_call_id":"t2","content":[{"type":"text","text":"noon"}]},
              {"role":"user","content":"and?"}])"),
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"weather?"}]},)"
      R"({"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"weather","input":{"city":"Rome"}},)"
      R"({"type":"tool_use","id":"t2","name":"clock","input":{}}]},)"
      R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"sun"}]},)"
      R"({"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"noon"}]},)"
      R"({"type":"text","text":"and?"}]}]})");
}

TEST(AnthropicRequest, PicturesComeFromDataAndFromAddresses) {
  EXPECT_EQ(messages_of(
                R"([{"role":"user","content":[{"type":"text","text":"what?"},
              {"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD","detail":"auto"}},
              {"type":"image_url","image_url":{"url":"https://example.com/a.jpg"}}]}])"),
            R"({"messages":[{"role":"user","content":[{"type":"text","text":"what?"},)"
            R"({"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}},)"
            R"({"type":"image","source":{"type":"url","url":"https://example.com/a.jpg"}}]}]})");
  const auto refusal = [](const std::string& image) {
    return messages_of(R"([{"role":"user","content":[{"type":"image_url","image_url":)" + image + "}]}]");
  };
  EXPECT_EQ(
      refusal(R"({"url":"http://example.com/a.jpg"})"),
      "refused messages[0].content[0].image_url.url: messages[0].content[0].image_url.url must begin with "
      "https:// or data:image/TYPE;base64,");
  EXPECT_TRUE(
      refusal(R"({"url":"data:image/tiff;base64,QUJD"})").starts_with("refused messages[0].content[0]"));
  EXPECT_TRUE(refusal(R"({"url":"https://a/b","detail":"high"})")
                  .starts_with("refused messages[0].content[0].image_url.detail:"));
}

TEST(AnthropicRequest, MessagesThatCannotBeKeptAreNamed) {
  const auto refusal = [](const std::string& messages) {
    const std::string said = messages_of(messages);
    return said.starts_with("refused ") ? said.substr(8, said.find(':') - 8) : said;
  };
  EXPECT_EQ(refusal(R"([])"), "messages");
  EXPECT_EQ(refusal(R"("x")"), "messages");
  EXPECT_EQ(refusal(R"([7])"), "messages[0]");
  EXPECT_EQ(refusal(R"([{"role":"system","content":"x"}])"), "messages");
  EXPECT_EQ(refusal(R"([{"role":"function","content":"x"}])"), "messages[0].role");
  EXPECT_EQ(refusal(R"([{"role":"user","content":"x","name":"bob"}])"), "messages[0].name");
  EXPECT_EQ(refusal(R"([{"role":"user","content":""}])"), "messages[0].content");
  EXPECT_EQ(refusal(R"([{"role":"user","content":5}])"), "messages[0].content");
  EXPECT_EQ(refusal(R"([{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}])"),
            "messages[0].content[0].type");
  EXPECT_EQ(
      refusal(R"([{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"https://a"}}]}])"),
      "messages[0].content[0].type");
  EXPECT_EQ(
      refusal(
          R"([{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"["}}]}])"),
      "messages[0].tool_calls[0].function.arguments");
  EXPECT_EQ(refusal(R"([{"role":"tool","content":"x"}])"), "messages[0].tool_call_id");
}

TEST(AnthropicRequest, TemperatureAboveOneIsOne) {
  EXPECT_EQ(body_of(R"("temperature":0.5,"top_p":0.9)"),
            R"({"model":"claude","max_tokens":4096,"temperature":5E-1,"top_p":9E-1})");
  EXPECT_EQ(body_of(R"("temperature":1.7)"), R"({"model":"claude","max_tokens":4096,"temperature":1})");
  EXPECT_EQ(refusal_of(R"("temperature":2.1)"), "temperature");
  EXPECT_EQ(refusal_of(R"("temperature":"hot")"), "temperature");
  EXPECT_EQ(refusal_of(R"("top_p":2)"), "top_p");
}

TEST(AnthropicRequest, StopsUserAndStream) {
  EXPECT_EQ(
      body_of(R"("stop":"END","user":"u1","stream":true,"stream_options":{"include_usage":true})"),
      R"({"model":"claude","max_tokens":4096,"stop_sequences":["END"],"metadata":{"user_id":"u1"},"stream":true})");
  EXPECT_EQ(body_of(R"("stop":["a","b"],"stream":false)"),
            R"({"model":"claude","max_tokens":4096,"stop_sequences":["a","b"]})");
  EXPECT_EQ(refusal_of(R"("stop":"\n")"), "stop");
  EXPECT_EQ(refusal_of(R"("user":"a","safety_identifier":"b")"), "user");
  EXPECT_EQ(refusal_of(R"("stream_options":{"surprise":true})"), "stream_options.surprise");
}

TEST(AnthropicRequest, ToolsAndTheirChoice) {
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{}},"strict":true}},{"type":"function","function":{"name":"g"}}])";
  const std::string translated =
      R"({"model":"claude","max_tokens":4096,"tools":[{"input_schema":{"type":"object","properties":{}},"name":"f","description":"d","strict":true},{"input_schema":{"type":"object","properties":{}},"name":"g"}])";
  EXPECT_EQ(body_of(tools), translated + "}");
  const auto choice = [&](const std::string& fields) {
    const std::string body = body_of(tools + "," + fields);
    return body.starts_with(translated + ",") ? body.substr(translated.size() + 1) : body;
  };
  EXPECT_EQ(choice(R"("tool_choice":"auto")"), R"("tool_choice":{"type":"auto"}})");
  EXPECT_EQ(choice(R"("tool_choice":"none","parallel_tool_calls":false)"),
            R"("tool_choice":{"type":"none"}})");
  EXPECT_EQ(choice(R"("tool_choice":"required")"), R"("tool_choice":{"type":"any"}})");
  EXPECT_EQ(choice(R"("tool_choice":{"type":"function","function":{"name":"f"}})"),
            R"("tool_choice":{"type":"tool","name":"f"}})");
  EXPECT_EQ(choice(R"("parallel_tool_calls":false)"),
            R"("tool_choice":{"type":"auto","disable_parallel_tool_use":true}})");
  EXPECT_EQ(choice(R"("parallel_tool_calls":true)"), translated + "}");
  EXPECT_EQ(refusal_of(R"("tool_choice":"auto")"), "tool_choice");
  EXPECT_EQ(refusal_of(R"("parallel_tool_calls":false)"), "parallel_tool_calls");
  EXPECT_EQ(refusal_of(R"("tools":[{"type":"custom","custom":{"name":"f"}}])"), "tools[0]");
  EXPECT_EQ(refusal_of(R"("tools":[{"type":"function","function":{"parameters":{}}}])"),
            "tools[0].function.name");
}

TEST(AnthropicRequest, FormsOfTheAnswer) {
  EXPECT_EQ(
      body_of(
          R"("response_format":{"type":"json_schema","json_schema":{"name":"n","description":"d","strict":true,"schema":{"type":"object"}}},"reasoning_effort":"low")"),
      R"({"model":"claude","max_tokens":4096,"output_config":{"format":{"type":"json_schema","schema":{"type":"object","description":"d"}},"effort":"low"}})");
  EXPECT_EQ(body_of(R"("response_format":{"type":"text"})"), R"({"model":"claude","max_tokens":4096})");
  EXPECT_EQ(body_of(R"("reasoning_effort":"none")"),
            R"({"model":"claude","max_tokens":4096,"thinking":{"type":"disabled"}})");
  EXPECT_EQ(refusal_of(R"("response_format":{"type":"json_object"})"), "response_format.type");
  EXPECT_EQ(refusal_of(R"("response_format":{"type":"json_schema","json_schema":{"name":"n"}})"),
            "response_format.json_schema.schema");
  EXPECT_EQ(refusal_of(R"("reasoning_effort":"minimal")"), "reasoning_effort");
}

TEST(AnthropicRequest, WhatAsksForNothingPasses) {
  EXPECT_EQ(
      body_of(
          R"("n":1,"presence_penalty":0,"frequency_penalty":0.0,"logprobs":false,"store":false,"seed":null,"logit_bias":{},"modalities":["text"],"service_tier":"auto","metadata":{})"),
      R"({"model":"claude","max_tokens":4096})");
  EXPECT_EQ(body_of(R"("service_tier":"default")"),
            R"({"model":"claude","max_tokens":4096,"service_tier":"standard_only"})");
}

TEST(AnthropicRequest, WhatCannotBeKeptIsRefusedByItsName) {
  for (const std::string field :
       {R"("seed":7)", R"("n":2)", R"("presence_penalty":0.5)", R"("frequency_penalty":1)",
        R"("logprobs":true)", R"("top_logprobs":3)", R"("logit_bias":{"5":1})", R"("store":true)",
        R"("metadata":{"a":"b"})", R"("audio":{"voice":"a"})", R"("modalities":["text","audio"])",
        R"("prediction":{"type":"content"})", R"("functions":[{"name":"f"}])", R"("function_call":"auto")",
        R"("service_tier":"flex")", R"("web_search_options":{})", R"("prompt_cache_key":"k")",
        R"("verbosity":"low")", R"("brand_new":1)"}) {
    const std::string name = field.substr(1, field.find('"', 1) - 1);
    EXPECT_EQ(refusal_of(field), name);
  }
}

TEST(AnthropicRequest, AJobsInputIsAChatToo) {
  const auto job = [](const std::string& input, std::int64_t limit = 0) {
    Request request;
    request.task = "text";
    request.input = input;
    request.max_output_tokens = limit;
    const auto body = make_anthropic_body(request, "claude");
    return body ? *body : "refused " + body.error().param;
  };
  EXPECT_EQ(
      job(R"({"prompt":"hi","max_tokens":9,"temperature":0})"),
      R"({"model":"claude","max_tokens":9,"temperature":0,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]})");
  EXPECT_EQ(
      job(R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}]})", 12),
      R"({"model":"claude","max_tokens":12,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]})");
  EXPECT_EQ(job(R"({"prompt":"x","messages":[]})"), "refused input.prompt");
  EXPECT_EQ(job("{}"), "refused input.prompt");
  EXPECT_EQ(job(R"({"prompt":5})"), "refused input.prompt");
  EXPECT_EQ(job(R"({"prompt":"x","tools":[]})"), "refused input.tools");
  EXPECT_EQ(job(R"({"prompt":"x","stream":true})"), "refused input.stream");
  EXPECT_EQ(job(R"({"prompt":"x","seed":1})"), "refused input.seed");
  EXPECT_EQ(job(R"({"messages":[{"role":"user","content":"x","name":"b"}]})"),
            "refused input.messages[0].name");
  EXPECT_EQ(job("nonsense"), "refused input");
}

TEST(AnthropicRequest, HeadersNameVersionAndKey) {
  EXPECT_EQ(anthropic_headers("sk-ant", true), (net::Headers{{"Accept", "text/event-stream"},
                                                             {"Content-Type", "application/json"},
                                                             {"anthropic-version", "2023-06-01"},
                                                             {"x-api-key", "sk-ant"}}));
  EXPECT_EQ(anthropic_headers("", false).size(), 3U);
}

// --- Answers

net::ClientResponse answer(int status, const std::string& body, net::Headers headers = {}) {
  return {.status = status, .headers = std::move(headers), .body = body};
}

constexpr const char* kToolAnswer =
    R"({"id":"msg_01Aq9w938a90dw8q","type":"message","role":"assistant","model":"claude-opus-4-6",
        "content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},
                   {"type":"text","text":"Let me "},{"type":"text","text":"look."},
                   {"type":"tool_use","id":"toolu_01A","name":"get_weather","input":{"location":"San Francisco, CA"}}],
        "stop_reason":"tool_use","stop_sequence":null,
        "usage":{"input_tokens":40,"cache_creation_input_tokens":200,"cache_read_input_tokens":1000,"output_tokens":75}})";

TEST(AnthropicAnswer, BecomesAChatCompletion) {
  const auto chat = read_anthropic_chat(answer(200, kToolAnswer), kCreated, "");
  ASSERT_TRUE(chat);
  EXPECT_EQ(
      chat->body,
      R"({"id":"msg_01Aq9w938a90dw8q","object":"chat.completion","created":1790000000,"model":"claude-opus-4-6",)"
      R"("choices":[{"index":0,"message":{"role":"assistant","content":"Let me look.","refusal":null,)"
      R"("tool_calls":[{"id":"toolu_01A","type":"function","function":{"name":"get_weather","arguments":"{\"location\":\"San Francisco, CA\"}"}}]},)"
      R"("logprobs":null,"finish_reason":"tool_calls"}],)"
      R"("usage":{"prompt_tokens":1240,"completion_tokens":75,"total_tokens":1315,"prompt_tokens_details":{"cached_tokens":1000}}})");
  EXPECT_EQ(chat->usage.meters(), (std::vector<std::pair<std::string, std::int64_t>>{
                                      {"tokens_in", 1240}, {"tokens_cached", 1000}, {"tokens_out", 75}}));
}

TEST(AnthropicAnswer, ContentIsNullWhereNothingWasSaid) {
  const auto chat = read_anthropic_chat(
      answer(200,
             R"({"content":[{"type":"tool_use","id":"a","name":"f","input":{}}],"stop_reason":"tool_use"})"),
      kCreated, "");
  ASSERT_TRUE(chat);
  EXPECT_TRUE(chat->body.contains(R"("content":null)")) << chat->body;
  EXPECT_TRUE(chat->body.contains(R"("arguments":"{}")")) << chat->body;
  EXPECT_TRUE(chat->usage.meters().empty());
}

TEST(AnthropicAnswer, EveryStopReasonHasAFinishReason) {
  const auto finish = [](const std::string& stop) {
    Request request;
    const Outcome outcome = read_anthropic_answer(
        request, answer(200, R"({"content":[{"type":"text","text":"x"}],"stop_reason":")" + stop + R"("})"),
        "");
    const auto* success = std::get_if<Success>(&outcome);
    return success == nullptr ? "failed" : success->output;
  };
  EXPECT_EQ(finish("end_turn"), R"({"text":"x","finish_reason":"stop"})");
  EXPECT_EQ(finish("stop_sequence"), R"({"text":"x","finish_reason":"stop"})");
  EXPECT_EQ(finish("max_tokens"), R"({"text":"x","finish_reason":"length"})");
  EXPECT_EQ(finish("model_context_window_exceeded"), R"({"text":"x","finish_reason":"length"})");
  EXPECT_EQ(finish("tool_use"), R"({"text":"x","finish_reason":"tool_calls"})");
  EXPECT_EQ(finish("refusal"), R"({"text":"x","finish_reason":"content_filter"})");
  EXPECT_EQ(finish("new_reason"), R"({"text":"x","finish_reason":"stop"})");
}

TEST(AnthropicAnswer, FailuresAreClassifiedAndGarbageIsBadOutput) {
  const auto class_of = [](int status, const std::string& body) {
    const auto chat = read_anthropic_chat(answer(status, body), kCreated, "");
    return chat ? std::optional<FailureClass>{} : chat.error().failure;
  };
  EXPECT_EQ(class_of(529, R"({"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}})"),
            FailureClass::kTransient);
  EXPECT_EQ(class_of(200, "<html>"), FailureClass::kBadOutput);
  EXPECT_EQ(class_of(200, "{}"), FailureClass::kBadOutput);
  EXPECT_EQ(class_of(200, R"({"content":[5]})"), FailureClass::kBadOutput);
  EXPECT_EQ(class_of(200, R"({"type":"error","error":{"type":"rate_limit_error"}})"),
            FailureClass::kRateLimited);
}

TEST(AnthropicAnswer, FailuresOfInputAreToldInOpenAisShape) {
  const Failure at_fault = with_reply(failure(FailureClass::kInvalidInput, "seed cannot"), 400, "seed");
  EXPECT_EQ(at_fault.reply_status, 400);
  EXPECT_EQ(
      at_fault.reply,
      R"({"error":{"message":"seed cannot","type":"invalid_request_error","param":"seed","code":null}})");
  EXPECT_EQ(with_reply(failure(FailureClass::kTransient, "x"), 500, "").reply, "");
}

// --- Streams

// A stream after the documentation's example of tool use: text, then a call whose input comes in pieces.
constexpr std::string_view kToolStream = R"(event: message_start
data: {"type":"message_start","message":{"id":"msg_014p7gG3wDgGV9EUtLvnow3U","type":"message","role":"assistant","model":"claude-opus-4-6","stop_sequence":null,"usage":{"input_tokens":472,"cache_creation_input_tokens":10,"cache_read_input_tokens":100,"output_tokens":2},"content":[],"stop_reason":null}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"The user wants weather."}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Okay"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":", let's check:"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_01T1x1fJ34qAmk2tNTrN7Up6","name":"get_weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"location\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":" \"San"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":" Francisco\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_02","name":"clock","input":{}}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"}

)";

std::string chunk(const std::string& delta, const std::string& finish = "null") {
  return R"(data: {"id":"msg_014p7gG3wDgGV9EUtLvnow3U","object":"chat.completion.chunk","created":1790000000,"model":"claude-opus-4-6","choices":[{"index":0,"delta":)" +
         delta + R"(,"logprobs":null,"finish_reason":)" + finish + "}]}\n\n";
}

TEST(AnthropicStream, BecomesChunksAsItComes) {
  SseParser parser;
  AnthropicStream stream{kCreated, ""};
  std::vector<std::string> said;
  for (const SseEvent& event : parser.feed(kToolStream)) said.push_back(stream.take(event));
  const std::vector<std::string> expected = {
      chunk(R"({"role":"assistant","content":""})"),
      "",
      "",
      "",
      "",
      "",
      "",
      chunk(R"({"content":"Okay"})"),
      chunk(R"({"content":", let's check:"})"),
      "",
      chunk(
          R"({"tool_calls":[{"id":"toolu_01T1x1fJ34qAmk2tNTrN7Up6","type":"function","function":{"name":"get_weather","arguments":""},"index":0}]})"),
      "",
      chunk(R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"location\":"}}]})"),
      chunk(R"({"tool_calls":[{"index":0,"function":{"arguments":" \"San"}}]})"),
      chunk(R"({"tool_calls":[{"index":0,"function":{"arguments":" Francisco\"}"}}]})"),
      "",
      chunk(
          R"({"tool_calls":[{"id":"toolu_02","type":"function","function":{"name":"clock","arguments":""},"index":1}]})"),
      chunk(R"({"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]})"),
      chunk("{}", R"("tool_calls")"),
      "",
  };
  EXPECT_EQ(said, expected);
  EXPECT_TRUE(stream.ended());
  EXPECT_FALSE(stream.failure());
  EXPECT_EQ(stream.usage().meters(), (std::vector<std::pair<std::string, std::int64_t>>{
                                         {"tokens_in", 582}, {"tokens_cached", 100}, {"tokens_out", 89}}));
  EXPECT_EQ(stream.output_tokens(), 89);
  EXPECT_EQ(
      stream.usage_chunk(),
      R"({"id":"msg_014p7gG3wDgGV9EUtLvnow3U","object":"chat.completion.chunk","created":1790000000,"model":"claude-opus-4-6","choices":[],)"
      R"("usage":{"prompt_tokens":582,"completion_tokens":89,"total_tokens":671,"prompt_tokens_details":{"cached_tokens":100}}})");
}

TEST(AnthropicStream, UsageIsKnownAsFarAsItCame) {
  AnthropicStream stream{kCreated, ""};
  stream.take(
      {"message_start",
       R"({"type":"message_start","message":{"id":"m","usage":{"input_tokens":7,"output_tokens":1}}})", ""});
  EXPECT_EQ(stream.usage().input, 7);
  EXPECT_EQ(stream.output_tokens(), 1);
  stream.take({"content_block_start",
               R"({"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}})", ""});
  for (int i = 0; i < 10; ++i)
    stream.take({"content_block_delta",
                 R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word "}})",
                 ""});
  EXPECT_EQ(stream.output_tokens(), 13);
  EXPECT_FALSE(stream.ended());
  // Later usage is cumulative, input included where it is named.
  stream.take(
      {"message_delta",
       R"({"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":9,"cache_read_input_tokens":4,"output_tokens":30}})",
       ""});
  EXPECT_EQ(stream.usage().input, 13);
  EXPECT_EQ(stream.usage().cached, 4);
  EXPECT_EQ(stream.output_tokens(), 30);
}

TEST(AnthropicStream, WhatWasCountedUpstreamIsNotGuessed) {
  AnthropicStream stream{kCreated, ""};
  stream.take({"content_block_delta",
               R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":")" +
                   std::string(400, 'a') + R"("}})",
               ""});
  EXPECT_EQ(stream.output_tokens(), 100);
  stream.take({"message_delta",
               R"({"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":30}})",
               ""});
  EXPECT_EQ(stream.output_tokens(), 30);
}

TEST(AnthropicStream, AnErrorEndsItAndIsClassified) {
  const auto failure_of = [](const std::string& error) {
    AnthropicStream stream{kCreated, "sk-ant"};
    EXPECT_EQ(stream.take({"error", R"({"type":"error","error":)" + error + "}", ""}), "");
    EXPECT_EQ(stream.take({"message_stop", R"({"type":"message_stop"})", ""}), "");
    EXPECT_FALSE(stream.ended());
    EXPECT_TRUE(stream.failure());
    return *stream.failure();
  };
  EXPECT_EQ(failure_of(R"({"type":"overloaded_error","message":"Overloaded"})").failure,
            FailureClass::kTransient);
  EXPECT_EQ(failure_of(R"({"type":"overloaded_error","message":"Overloaded"})").message,
            "the upstream failed: Overloaded");
  EXPECT_EQ(failure_of(R"({"type":"rate_limit_error"})").failure, FailureClass::kRateLimited);
  EXPECT_EQ(failure_of(R"({"type":"timeout_error"})").failure, FailureClass::kTimeout);
  EXPECT_EQ(failure_of(R"({"type":"invalid_request_error"})").failure, FailureClass::kInvalidInput);
  EXPECT_EQ(failure_of(R"({"type":"authentication_error","message":"sk-an…"})").message,
            "the upstream failed");
  EXPECT_FALSE(failure_of(R"({"type":"api_error","message":"key sk-ant"})").message.contains("sk-ant"));
}

TEST(AnthropicStream, GarbageIsBadOutputAndWhatIsNewIsPassedOver) {
  AnthropicStream stream{kCreated, ""};
  EXPECT_EQ(stream.take({"brand_new", R"({"type":"brand_new","x":1})", ""}), "");
  EXPECT_EQ(stream.take({"content_block_delta",
                         R"({"type":"content_block_delta","delta":{"type":"new_delta"}})", ""}),
            "");
  EXPECT_FALSE(stream.failure());
  stream.take({"message", "nonsense", ""});
  ASSERT_TRUE(stream.failure());
  EXPECT_EQ(stream.failure()->failure, FailureClass::kBadOutput);
}

}  // namespace
}  // namespace turnpike::provider
