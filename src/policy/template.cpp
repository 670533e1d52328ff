#include "policy/template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <limits>
#include <span>
#include <utility>

namespace turnpike::policy {
namespace {

constexpr std::size_t kPathSegmentsMax = 8;
constexpr std::size_t kWordsMax = 32;
constexpr std::size_t kNameBytesMax = 64;
constexpr std::int64_t kMillion = 1'000'000;
constexpr std::int64_t kNumberWholeMax = 1'000'000'000;  // keeps millionths well inside 64 bits

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::optional<std::int64_t> parse_int(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// A plain decimal number as millionths, exactly; no exponent, at most 6 decimals.
std::optional<std::int64_t> parse_millionths(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const std::size_t dot = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, dot);
  std::string_view decimals = dot < text.size() ? text.substr(dot + 1) : std::string_view{};
  if (whole.empty() || (dot < text.size() && decimals.empty())) return std::nullopt;
  if (!std::ranges::all_of(whole, is_digit) || !std::ranges::all_of(decimals, is_digit)) return std::nullopt;
  const auto units = parse_int(whole);
  if (!units || *units > kNumberWholeMax || decimals.size() > 6) return std::nullopt;
  std::string padded{decimals};
  padded.resize(6, '0');
  const std::int64_t value = *units * kMillion + *parse_int(padded);
  return negative ? -value : value;
}

std::string millionths_text(std::int64_t value) {
  return fmt::format("{:g}", static_cast<double>(value) / static_cast<double>(kMillion));
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool is_path_segment(std::string_view segment) {
  if (segment.empty()) return false;
  if (is_digit(segment.front())) return segment.size() <= 4 && std::ranges::all_of(segment, is_digit);
  return std::ranges::all_of(segment, [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

std::unexpected<Error> mistake(std::string message) {
  return fail(ErrorCode::kConfiguration, std::move(message));
}

struct Root {
  std::string_view name;
  TemplateRoot root;
};
constexpr std::array<Root, 3> kProgramRoots = {
    {{"input", TemplateRoot::kInput}, {"file", TemplateRoot::kFile}, {"output", TemplateRoot::kOutput}}};
constexpr std::array<Root, 3> kHttpRoots = {
    {{"input", TemplateRoot::kInput}, {"model", TemplateRoot::kModel}, {"answer", TemplateRoot::kAnswer}}};

struct Roots {
  std::span<const Root> known;
  const char* rule;
};

Roots roots_of(TemplatePlace place) {
  switch (place) {
    case TemplatePlace::kProgram:
      return {kProgramRoots, "begins with input., file. or output."};
    case TemplatePlace::kRequest:
      return {std::span{kHttpRoots}.first(2), "is model or begins with input."};
    case TemplatePlace::kFollowUp:
      return {kHttpRoots, "is model or begins with input. or answer."};
  }
  return {};
}

Result<void> parse_path(std::string_view text, TemplatePlace place, TemplateReference& out) {
  std::vector<std::string> segments = split(text, '.');
  const std::string root = segments.front();
  const Roots roots = roots_of(place);
  const auto known = std::ranges::find(roots.known, root, &Root::name);
  if (known == roots.known.end())
    return mistake(fmt::format("`{}` is not known: a reference {}", text, roots.rule));
  out.root = known->root;
  segments.erase(segments.begin());
  if (out.root == TemplateRoot::kModel) {
    if (!segments.empty()) return mistake(fmt::format("`{}` must be `model` alone", text));
    return {};
  }
  const bool nested = out.root == TemplateRoot::kInput || out.root == TemplateRoot::kAnswer;
  const std::size_t segments_max = nested ? kPathSegmentsMax : 1;
  if (segments.empty() || segments.size() > segments_max || !std::ranges::all_of(segments, is_path_segment)) {
    return mistake(fmt::format("`{}` must be `{}.` and {} of letters, digits and _", text, root,
                               segments_max == 1 ? "one name" : "1 to 8 names, separated by dots,"));
  }
  out.path = std::move(segments);
  return {};
}

Result<void> parse_range(std::string_view filter, std::string_view arguments, TemplateReference& out) {
  const bool whole = out.filter == TemplateFilter::kInt;
  if (whole && arguments.empty()) {
    out.low = std::numeric_limits<std::int64_t>::min();
    out.high = std::numeric_limits<std::int64_t>::max();
    return {};
  }
  const std::size_t dots = arguments.find("..");
  const auto read = whole ? parse_int : parse_millionths;
  const auto low = dots == std::string_view::npos ? std::nullopt : read(arguments.substr(0, dots));
  const auto high = dots == std::string_view::npos ? std::nullopt : read(arguments.substr(dots + 2));
  if (!low || !high || *low > *high) {
    return mistake(
        fmt::format("filter `{}` needs a range, e.g. {}", filter, whole ? "int(1..4096)" : "number(0.1..3)"));
  }
  out.low = *low;
  out.high = *high;
  return {};
}

Result<void> parse_words(std::string_view filter, std::string_view arguments, TemplateReference& out) {
  out.words = split(arguments, ',');
  const bool good = out.words.size() <= kWordsMax &&
                    std::ranges::none_of(out.words, [](const std::string& word) { return word.empty(); });
  if (!good) return mistake(fmt::format("filter `{}` needs words, e.g. {}(png,jpeg)", filter, filter));
  return {};
}

Result<void> parse_filter(std::string_view text, TemplateReference& out) {
  const std::size_t open = std::min(text.find('('), text.size());
  const std::string_view name = text.substr(0, open);
  std::string_view arguments = text.substr(open);
  const bool has_arguments = !arguments.empty();
  if (has_arguments) {
    if (!arguments.ends_with(')')) return mistake(fmt::format("`)` is missing after filter `{}`", name));
    arguments = arguments.substr(1, arguments.size() - 2);
  }
  if (name == "markup" || name == "name") {
    if (has_arguments) return mistake(fmt::format("filter `{}` takes nothing in brackets", name));
    out.filter = name == "markup" ? TemplateFilter::kMarkup : TemplateFilter::kName;
    return {};
  }
  if (name == "int" || name == "number") {
    out.filter = name == "int" ? TemplateFilter::kInt : TemplateFilter::kNumber;
    return parse_range(name, arguments, out);
  }
  if (name == "one" || name == "is") {
    out.filter = name == "one" ? TemplateFilter::kOne : TemplateFilter::kIs;
    return parse_words(name, arguments, out);
  }
  return mistake(
      fmt::format("filter `{}` is not known: there are markup, int, number, name, one and is", name));
}

// What stands between `${` and `}`.
Result<TemplateReference> parse_reference(std::string_view text, TemplatePlace place) {
  TemplateReference reference;
  if (const std::size_t dash = text.find(":-"); dash != std::string_view::npos) {
    reference.fallback = std::string{text.substr(dash + 2)};
    text = text.substr(0, dash);
  } else if (text.ends_with('?')) {
    reference.optional = true;
    text.remove_suffix(1);
  }
  const std::size_t bar = std::min(text.find('|'), text.size());
  if (auto done = parse_path(text.substr(0, bar), place, reference); !done)
    return std::unexpected(done.error());
  if (bar < text.size()) {
    if (auto done = parse_filter(text.substr(bar + 1), reference); !done)
      return std::unexpected(done.error());
  }
  return reference;
}

std::string escape_markup(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 8);
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

bool is_name(std::string_view value) {
  if (value.empty() || value.size() > kNameBytesMax || value.front() == '-' || value.front() == '.')
    return false;
  return std::ranges::all_of(value, [](char c) {
    return is_letter(c) || is_digit(c) || c == '_' || c == '+' || c == '.' || c == '-';
  });
}

// Percent-encoded but for what RFC 3986 calls unreserved.
std::string encoded(std::string_view value, bool keeps_slashes) {
  std::string text;
  text.reserve(value.size());
  for (const char c : value) {
    const bool plain = is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~' ||
                       (c == '/' && keeps_slashes);
    if (plain) {
      text += c;
    } else {
      fmt::format_to(std::back_inserter(text), "%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

bool has_word(const TemplateReference& reference, const std::string& value) {
  return std::ranges::find(reference.words, value) != reference.words.end();
}

std::unexpected<Error> refuse(const TemplateReference& reference, std::string_view what) {
  return fail(ErrorCode::kInvalidRequest, fmt::format("{} {}", reference.name(), what), reference.name());
}

// The value as the filter lets it pass; nullopt: absent.
Result<std::optional<std::string>> filtered(const TemplateReference& reference, std::string value) {
  switch (reference.filter) {
    case TemplateFilter::kNone:
      return value;
    case TemplateFilter::kMarkup:
      return escape_markup(value);
    case TemplateFilter::kInt: {
      const auto number = parse_int(value);
      if (number && *number >= reference.low && *number <= reference.high) return value;
      if (reference.low == std::numeric_limits<std::int64_t>::min())
        return refuse(reference, "must be an integer");
      return refuse(reference,
                    fmt::format("must be an integer from {} to {}", reference.low, reference.high));
    }
    case TemplateFilter::kNumber: {
      const auto number = parse_millionths(value);
      if (number && *number >= reference.low && *number <= reference.high) return value;
      return refuse(reference, fmt::format("must be a number from {} to {}, with at most 6 decimals",
                                           millionths_text(reference.low), millionths_text(reference.high)));
    }
    case TemplateFilter::kName:
      if (is_name(value)) return value;
      return refuse(reference, "must be 1 to 64 letters, digits, _ + . or -, beginning with none of . and -");
    case TemplateFilter::kOne:
      if (has_word(reference, value)) return value;
      return refuse(reference, fmt::format("must be one of {}", fmt::join(reference.words, ", ")));
    case TemplateFilter::kIs:
      if (has_word(reference, value)) return value;
      return std::nullopt;
  }
  return std::nullopt;
}

// The value of one reference, default included; nullopt: absent. `from_user`: the text is the user's own.
Result<std::optional<std::string>> value_of(const TemplateReference& reference,
                                            const Template::Lookup& lookup, bool& from_user) {
  from_user = false;
  std::optional<std::string> value = lookup(reference);
  // An empty text stands for an absent one where the template says what to do then.
  const bool stands_in = reference.fallback || reference.optional;
  if (value && !(value->empty() && stands_in)) {
    auto checked = filtered(reference, std::move(*value));
    if (!checked) return checked;
    if (*checked) {
      from_user = reference.root == TemplateRoot::kInput && reference.filter != TemplateFilter::kInt &&
                  reference.filter != TemplateFilter::kNumber;
      return checked;
    }
  }
  return reference.fallback;
}

}  // namespace

std::string TemplateReference::name() const {
  constexpr std::array kRoots = {"input", "file", "output", "model", "answer"};
  const char* const begin = kRoots[static_cast<std::size_t>(root)];
  return path.empty() ? std::string{begin} : fmt::format("{}.{}", begin, fmt::join(path, "."));
}

Result<Template> Template::parse(std::string_view text, TemplatePlace place) {
  if (text.size() > kTextBytesMax)
    return mistake(fmt::format("a template may be at most {} bytes", kTextBytesMax));
  Template result;
  std::string literal;
  std::size_t references = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with("$${")) {
      literal += "${";
      at += 3;
      continue;
    }
    if (!text.substr(at).starts_with("${")) {
      if (text[at] == '\0') return mistake("a template may not contain a NUL byte");
      literal += text[at++];
      continue;
    }
    const std::size_t end = text.find('}', at);
    if (end == std::string_view::npos)
      return mistake(fmt::format("`${{` at character {} has no `}}`", at + 1));
    auto reference = parse_reference(text.substr(at + 2, end - at - 2), place);
    if (!reference) return mistake(fmt::format("{} (at character {})", reference.error().message, at + 1));
    if (++references > kReferencesMax)
      return mistake(fmt::format("a template may have at most {} references", kReferencesMax));
    if (!literal.empty()) result.pieces_.emplace_back(std::exchange(literal, {}));
    result.pieces_.emplace_back(std::move(*reference));
    at = end + 1;
  }
  if (!literal.empty()) result.pieces_.emplace_back(std::move(literal));
  return result;
}

std::vector<const TemplateReference*> Template::references() const {
  std::vector<const TemplateReference*> found;
  for (const Piece& piece : pieces_) {
    if (const auto* reference = std::get_if<TemplateReference>(&piece)) found.push_back(reference);
  }
  return found;
}

Result<std::optional<std::string>> Template::expand_checked(const Lookup& lookup, Use use) const {
  std::string expanded;
  for (const Piece& piece : pieces_) {
    if (const auto* literal = std::get_if<std::string>(&piece)) {
      expanded += *literal;
      continue;
    }
    const auto& reference = std::get<TemplateReference>(piece);
    bool from_user = false;
    auto value = value_of(reference, lookup, from_user);
    if (!value) return value;
    if (!*value) {
      if (reference.optional) return std::nullopt;
      if (use == Use::kCondition) continue;
      return refuse(reference, "is required");
    }
    if (use == Use::kArgument) {
      if (value->value().contains('\0')) return refuse(reference, "may not contain a NUL byte");
      if (from_user && expanded.empty() && value->value().starts_with('-'))
        return refuse(reference, "may not begin with '-'");
    }
    if (use == Use::kUrl && !value->value().empty() &&
        value->value().find_first_not_of('.') == std::string::npos)
      return refuse(reference, "must not be dots alone");
    expanded += use == Use::kUrl ? encoded(**value, reference.root == TemplateRoot::kModel) : **value;
    if (expanded.size() > kExpandedBytesMax) return refuse(reference, "is too long");
  }
  return expanded;
}

Result<std::optional<std::string>> Template::expand(const Lookup& lookup) const {
  return expand_checked(lookup, Use::kText);
}

Result<std::optional<std::string>> Template::expand_argument(const Lookup& lookup) const {
  return expand_checked(lookup, Use::kArgument);
}

Result<std::optional<std::string>> Template::expand_url(const Lookup& lookup) const {
  return expand_checked(lookup, Use::kUrl);
}

const TemplateReference* Template::sole_reference() const {
  return pieces_.size() == 1 ? std::get_if<TemplateReference>(&pieces_.front()) : nullptr;
}

Result<std::string> Template::expand_or_empty(const Lookup& lookup) const {
  auto expanded = expand_checked(lookup, Use::kCondition);
  if (!expanded) return std::unexpected(expanded.error());
  return expanded->value_or("");
}

}  // namespace turnpike::policy
