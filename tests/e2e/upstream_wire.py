"""What the fake upstream answers: OpenAI's and Anthropic's shapes, the same answer to the same request. Pure."""

import base64
import hashlib
import itertools
import json
import struct
import zlib
from dataclasses import dataclass, field

CREATED = 1_790_000_000
EMBEDDING_SIZE = 8
SPEECH_RATE = 8_000  # samples a second
SPEECH_MS_PER_WORD = 100
MODELS = ("parrot", "parrot-2", "embedder", "painter", "speaker", "listener")


@dataclass
class Asked:
    """A request as it came."""
    method: str
    path: str  # without the query
    headers: dict  # names in lower case
    body: bytes
    fields: dict = field(default_factory=dict)  # of the JSON body, or of the form
    files: dict = field(default_factory=dict)  # of the form: field -> (file name, type, bytes)

    @property
    def key(self):
        given = self.headers.get("authorization", "")
        return given.removeprefix("Bearer ") if given else self.headers.get("x-api-key", "")

    @property
    def model(self):
        model = self.fields.get("model")
        return model if isinstance(model, str) else ""

    @property
    def stream(self):
        return self.fields.get("stream") in (True, "true")

    @property
    def operation(self):
        return self.path.rsplit("/v1", 1)[-1]

    @property
    def prompt(self):
        """The last text that somebody said."""
        said = texts(self.fields.get("messages")) or texts(self.fields.get("input")) or texts(self.fields.get("prompt"))
        return said[-1] if said else ""

    @property
    def tokens_in(self):
        everything = [text for name in ("system", "messages", "input", "prompt", "instructions")
                      for text in texts(self.fields.get(name))]
        return max(1, len(" ".join(everything).split()))


@dataclass
class Answer:
    body: bytes = b""
    content_type: str = "application/json"
    events: object = None  # of a stream: an iterator of (kind, bytes); kind is start, token or end
    status: int = 200


def texts(value):
    """All text in messages, input items, content parts or a plain string, in order."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    if isinstance(value, dict):
        return texts(value.get("content")) or texts(value.get("text"))
    return []


def read_form(content_type, body):
    """The fields and files of multipart/form-data."""
    boundary = content_type.split("boundary=", 1)[1].split(";")[0].strip().strip('"').encode()
    fields, files = {}, {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = {}
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, _, text = line.partition(":")
            headers[name.strip().lower()] = text.strip()
        disposition = headers.get("content-disposition", "")
        words = {name: text.strip('"') for name, _, text in (each.strip().partition("=") for each in disposition.split(";"))}
        if "filename" in words:
            files[words["name"]] = (words["filename"], headers.get("content-type", ""), value)
        elif "name" in words:
            fields[words["name"]] = value.decode("utf-8", "replace")
    return fields, files


def dump(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(value, name=None):
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + dump(value) + b"\n\n"


def identity(asked, prefix):
    return prefix + hashlib.sha256(asked.body).hexdigest()[:24]


# --- Text: tokens are words, each with the space before it


def images_in(asked):
    return sum(1 for message in asked.fields.get("messages") or [] if isinstance(message.get("content"), list)
               for part in message["content"] if part.get("type") in ("image_url", "image"))


def tokens_of(asked, rule):
    """(the tokens, how many, why they end). `rule.tokens`: that many, made as they are needed."""
    limits = [asked.fields.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens")]
    limit = next((given for given in limits if given), None)
    if rule.get("tokens") is not None:
        count = rule["tokens"]
        made = (("" if at == 0 else " ") + f"t{at}" for at in itertools.count())
    else:
        text = rule.get("text") or said(asked)
        words = text.split(" ")
        made, count = iter([word if at == 0 else " " + word for at, word in enumerate(words)]), len(words)
    reason = "stop"
    if limit is not None and limit < count and not rule.get("no_limit"):
        count, reason = limit, "length"
    return itertools.islice(made, count), count, rule.get("finish_reason") or reason


def said(asked):
    if (asked.fields.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
        return dump({"said": asked.prompt}).decode()
    pictures = images_in(asked)
    seen = f" I see {pictures} picture{'' if pictures == 1 else 's'}." if pictures else ""
    return f"You said: {asked.prompt}{seen}"


def usage_of(asked, rule, count):
    """What it says it used: nothing where the rule says so."""
    told = rule.get("usage")
    if told == "none":
        return None
    if told == "zero":
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    used = {"prompt_tokens": asked.tokens_in, "completion_tokens": count, "total_tokens": asked.tokens_in + count,
            "prompt_tokens_details": {"cached_tokens": 0}}
    return used | told if isinstance(told, dict) else used


def grouped(tokens, size):
    while group := "".join(itertools.islice(tokens, size)):
        yield group


def tool_calls(asked):
    """A call of the first tool, if tools are offered and none has answered yet."""
    tools = asked.fields.get("tools") or []
    if not tools or any(message.get("role") == "tool" for message in asked.fields.get("messages") or []):
        return None
    function = tools[0].get("function") or tools[0]
    return [{"id": identity(asked, "call_"), "type": "function",
             "function": {"name": function["name"], "arguments": dump({"said": asked.prompt}).decode()}}]


def chat(asked, rule):
    tokens, count, reason = tokens_of(asked, rule)
    calls = tool_calls(asked)
    about = {"id": identity(asked, "chatcmpl-"), "created": CREATED, "model": asked.model, "system_fingerprint": "fp_fake"}
    choices = range(asked.fields.get("n") or 1)
    if calls:
        count, reason = len(calls[0]["function"]["arguments"].split(" ")), "tool_calls"
    usage = usage_of(asked, rule, count * len(choices))
    if not asked.stream:
        message = {"role": "assistant", "content": None if calls else "".join(tokens), "refusal": None}
        if calls:
            message["tool_calls"] = calls
        body = about | {"object": "chat.completion",
                        "choices": [{"index": at, "message": message, "logprobs": None, "finish_reason": reason}
                                    for at in choices]}
        return Answer(dump(body | ({"usage": usage} if usage is not None else {})))
    asked_usage = bool((asked.fields.get("stream_options") or {}).get("include_usage"))

    def chunk(choice_list, more=None):
        value = about | {"object": "chat.completion.chunk", "choices": choice_list}
        if asked_usage:
            value["usage"] = None
        return event(value | (more or {}))

    def delta(at, what, finish=None):
        return {"index": at, "delta": what, "logprobs": None, "finish_reason": finish}

    def events():
        for at in choices:
            yield "start", chunk([delta(at, {"role": "assistant", "content": None if calls else "", "refusal": None})])
        if calls:
            call = calls[0]
            head = {"index": 0, "id": call["id"], "type": "function",
                    "function": {"name": call["function"]["name"], "arguments": ""}}
            yield "token", chunk([delta(0, {"tool_calls": [head]})])
            arguments = call["function"]["arguments"]
            for at in range(0, len(arguments), 5):
                yield "token", chunk([delta(0, {"tool_calls": [{"index": 0, "function": {"arguments": arguments[at:at + 5]}}]})])
        else:
            for group in grouped(tokens, rule.get("chunk_tokens", 1)):
                for at in choices:
                    yield "token", chunk([delta(at, {"content": group})])
        for at in choices:
            yield "end", chunk([delta(at, {}, reason)])
        if usage is not None and (asked_usage or rule.get("usage") == "always"):
            yield "end", chunk([], {"usage": usage})
        yield "end", b"data: [DONE]\n\n"

    return Answer(content_type="text/event-stream; charset=utf-8", events=events())


def completions(asked, rule):
    tokens, count, reason = tokens_of(asked, rule)
    about = {"id": identity(asked, "cmpl-"), "object": "text_completion", "created": CREATED, "model": asked.model}
    usage = usage_of(asked, rule, count)
    if not asked.stream:
        body = about | {"choices": [{"index": 0, "text": "".join(tokens), "logprobs": None, "finish_reason": reason}]}
        return Answer(dump(body | ({"usage": usage} if usage is not None else {})))
    asked_usage = bool((asked.fields.get("stream_options") or {}).get("include_usage"))

    def events():
        for group in grouped(tokens, rule.get("chunk_tokens", 1)):
            yield "token", event(about | {"choices": [{"index": 0, "text": group, "logprobs": None, "finish_reason": None}]})
        yield "end", event(about | {"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": reason}]})
        if usage is not None and asked_usage:
            yield "end", event(about | {"choices": [], "usage": usage})
        yield "end", b"data: [DONE]\n\n"

    return Answer(content_type="text/event-stream", events=events())


def responses(asked, rule):
    tokens, count, reason = tokens_of(asked, rule)
    told = usage_of(asked, rule, count)
    usage = told and {"input_tokens": told["prompt_tokens"], "input_tokens_details": {"cached_tokens": 0},
                      "output_tokens": told["completion_tokens"], "output_tokens_details": {"reasoning_tokens": 0},
                      "total_tokens": told["total_tokens"]}
    item = identity(asked, "msg_")

    def response(status, text=None):
        part = {"type": "output_text", "text": text, "annotations": []}
        output = [] if text is None else [{"type": "message", "id": item, "status": "completed", "role": "assistant",
                                           "content": [part]}]
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {"id": identity(asked, "resp_"), "object": "response", "created_at": CREATED, "status": status, "error": None,
                "incomplete_details": cut, "instructions": None, "metadata": {}, "model": asked.model, "output": output,
                "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
                "usage": usage if text is not None else None}

    last = "incomplete" if reason == "length" else "completed"
    if not asked.stream:
        return Answer(dump(response(last, "".join(tokens))))

    def events():
        number = itertools.count()

        def say(kind, **more):
            return event({"type": kind, "sequence_number": next(number), **more}, kind)

        yield "start", say("response.created", response=response("in_progress"))
        yield "start", say("response.output_item.added", output_index=0,
                           item={"type": "message", "id": item, "status": "in_progress", "role": "assistant", "content": []})
        yield "start", say("response.content_part.added", item_id=item, output_index=0, content_index=0,
                           part={"type": "output_text", "text": "", "annotations": []})
        text = ""
        for group in grouped(tokens, rule.get("chunk_tokens", 1)):
            text += group
            yield "token", say("response.output_text.delta", item_id=item, output_index=0, content_index=0, delta=group,
                               logprobs=[])
        yield "end", say("response.output_text.done", item_id=item, output_index=0, content_index=0, text=text, logprobs=[])
        yield "end", say(f"response.{last}", response=response(last, text))

    return Answer(content_type="text/event-stream", events=events())


def messages(asked, rule):
    """Anthropic's."""
    tokens, count, reason = tokens_of(asked, rule)
    told = usage_of(asked, rule, count) or {"prompt_tokens": 0, "completion_tokens": 0}
    usage = {"input_tokens": told["prompt_tokens"], "cache_creation_input_tokens": 0,
             "cache_read_input_tokens": told.get("prompt_tokens_details", {}).get("cached_tokens", 0),
             "output_tokens": told["completion_tokens"]}
    stop = {"stop": "end_turn", "length": "max_tokens"}.get(reason, reason)
    about = {"id": identity(asked, "msg_"), "type": "message", "role": "assistant", "model": asked.model}
    if not asked.stream:
        return Answer(dump(about | {"content": [{"type": "text", "text": "".join(tokens)}], "stop_reason": stop,
                                    "stop_sequence": None, "usage": usage}))

    def events():
        def say(kind, **more):
            return event({"type": kind, **more}, kind)

        yield "start", say("message_start", message=about | {"content": [], "stop_reason": None, "stop_sequence": None,
                                                             "usage": usage | {"output_tokens": 1}})
        yield "start", say("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield "start", say("ping")
        for group in grouped(tokens, rule.get("chunk_tokens", 1)):
            yield "token", say("content_block_delta", index=0, delta={"type": "text_delta", "text": group})
        yield "end", say("content_block_stop", index=0)
        yield "end", say("message_delta", delta={"stop_reason": stop, "stop_sequence": None},
                         usage={"output_tokens": usage["output_tokens"]})
        yield "end", say("message_stop")

    return Answer(content_type="text/event-stream; charset=utf-8", events=events())


# --- The others


def vector(text):
    digest = hashlib.sha256(text.encode()).digest()
    return [(digest[at] - 128) / 128 for at in range(EMBEDDING_SIZE)]


def embeddings(asked, rule):
    given = asked.fields.get("input")
    inputs = [given] if isinstance(given, str) else given
    data = []
    for at, text in enumerate(inputs):
        numbers = vector(text if isinstance(text, str) else json.dumps(text))
        if asked.fields.get("encoding_format") == "base64":
            numbers = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        data.append({"object": "embedding", "index": at, "embedding": numbers})
    told = usage_of(asked, rule, 0)
    usage = told and {"prompt_tokens": told["prompt_tokens"], "total_tokens": told["total_tokens"]}
    return Answer(dump({"object": "list", "data": data, "model": asked.model} | ({"usage": usage} if usage else {})))


def png(width, height, colour):
    """A picture of one colour."""
    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\x00" + bytes(colour) * width) * height
    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + part(b"IDAT", zlib.compress(rows, 9)) + part(b"IEND", b""))


def images(asked, _rule):
    wanted = int(asked.fields.get("n") or 1)
    colour = hashlib.sha256(asked.prompt.encode()).digest()[:3]
    picture = base64.b64encode(png(16, 16, colour)).decode()
    data = [{"b64_json": picture} for _ in range(wanted)]
    if asked.fields.get("response_format") == "url":
        data = [{"url": f"https://pictures.invalid/{at}.png"} for at in range(wanted)]
    usage = {"input_tokens": asked.tokens_in, "output_tokens": 100 * wanted, "total_tokens": asked.tokens_in + 100 * wanted,
             "input_tokens_details": {"text_tokens": asked.tokens_in, "image_tokens": 0}}
    return Answer(dump({"created": CREATED, "data": data, "size": asked.fields.get("size") or "1024x1024", "usage": usage}))


def wav(milliseconds):
    samples = b"\x00\x00" * (SPEECH_RATE * milliseconds // 1000)
    return (b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 1, SPEECH_RATE, 2 * SPEECH_RATE, 2, 16)
            + b"data" + struct.pack("<I", len(samples)) + samples)


def speech(asked, _rule):
    sound = wav(SPEECH_MS_PER_WORD * max(1, len(asked.prompt.split())))
    if asked.fields.get("stream_format") != "sse":
        return Answer(sound, "audio/wav")

    def events():
        for at in range(0, len(sound), 1024):
            yield "token", event({"type": "speech.audio.delta", "audio": base64.b64encode(sound[at:at + 1024]).decode()})
        yield "end", event({"type": "speech.audio.done", "usage": {"input_tokens": asked.tokens_in, "output_tokens": 10,
                                                                   "total_tokens": asked.tokens_in + 10}})

    return Answer(content_type="text/event-stream", events=events())


def transcriptions(asked, rule):
    _, _, sound = asked.files.get("file", ("", "", b""))
    milliseconds = max(0, len(sound) - 44) * 1000 // (2 * SPEECH_RATE)
    text = rule.get("text") or f"I heard {milliseconds} ms."
    usage = {"type": "duration", "seconds": -(-milliseconds // 1000)}
    wanted = asked.fields.get("response_format") or "json"
    if asked.stream:
        def events():
            for group in grouped(iter(text.split(" ")), 1):
                yield "token", event({"type": "transcript.text.delta", "delta": group})
            yield "end", event({"type": "transcript.text.done", "text": text, "usage": usage})
        return Answer(content_type="text/event-stream", events=events())
    if wanted in ("text", "srt", "vtt"):
        return Answer((text + "\n").encode(), "text/plain; charset=utf-8")
    body = {"text": text, "usage": usage}
    if wanted == "verbose_json":
        body |= {"task": "transcribe", "language": "english", "duration": milliseconds / 1000, "segments": []}
    return Answer(dump(body))


def models(asked, _rule):
    listed = [{"id": name, "object": "model", "created": CREATED, "owned_by": "fake"} for name in MODELS]
    if asked.operation == "/models":
        return Answer(dump({"object": "list", "data": listed, "has_more": False}))
    found = next((model for model in listed if asked.path.endswith("/" + model["id"])), None)
    return Answer(dump(found)) if found else error(asked, 404, "there is no such model", code="model_not_found")


OPERATIONS = {
    ("POST", "/chat/completions"): chat,
    ("POST", "/completions"): completions,
    ("POST", "/responses"): responses,
    ("POST", "/messages"): messages,
    ("POST", "/embeddings"): embeddings,
    ("POST", "/images/generations"): images,
    ("POST", "/images/edits"): images,
    ("POST", "/audio/speech"): speech,
    ("POST", "/audio/transcriptions"): transcriptions,
    ("GET", "/models"): models,
}


def answer(asked, rule):
    """What to say to a request where nothing is to go wrong."""
    found = OPERATIONS.get((asked.method, asked.operation))
    if found is None and asked.method == "GET" and asked.operation.startswith("/models/"):
        found = models
    return found(asked, rule) if found else error(asked, 404, f"there is no {asked.method} {asked.path}")


ERROR_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
               404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error"}


def error(asked, status, message, code=None):
    """A refusal, in the shape of whom the request was for."""
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    if asked.operation == "/messages":
        body = {"type": "error", "error": {"type": kind if status < 500 else "api_error", "message": message}}
    else:
        body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Answer(dump(body), status=status)


def error_event(asked, message):
    """A failure inside a stream."""
    if asked.operation == "/messages":
        return event({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")
    if asked.operation == "/responses":
        return event({"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 99}, "error")
    return event({"error": {"message": message, "type": "server_error", "param": None, "code": None}})
