// The language of an exec command's arguments and of an http request: text with `${...}` references, looked
// up in the job's input and never seen by a shell. Parsed once when the configuration is loaded, expanded for
// each try.
//
//   ${input.PATH}            a field of the input; PATH may be nested (`operations.resize.width`,
//   `scenes.0.image`).
//                            A text is itself, a number and a boolean as JSON writes them, a list or an
//                            object its JSON; null is absent.
//   ${file.FIELD}            the path of the input artifact that the field names; of a list of at most
//                            100 artifacts, their paths with `|` between: `concat:${file.clips}`
//   ${output.NAME}           the path to write a declared output to
//   ${model}                 the model as the provider names it (http)
//   ${answer.PATH}           a field of the answer to the first request, as of the input (http, afterwards)
//   ${...:-default}          `default` where the value is absent or empty
//   ${...?}                  the whole element is left out where the value is absent or empty
//   ${...|filter}            before `:-` or `?`; what the value must be or becomes, checked on the value only
//   (a
//                            default is the operator's own):
//        markup              escapes & < > " ' for Pango markup and XML
//        int(1..4096)        an integer in the range, both ends included; `int` alone: any of 64 bits
//        number(0.1..3)      a decimal number in the range, at most 6 decimals; the range is required
//        name                1 to 64 of [A-Za-z0-9_+.-], not beginning with '-' or '.': voices, languages
//        one(png,jpeg)       one of these words
//        is(jpeg)            itself if it is one of these words, else absent: for `when`
//   $${                      the two characters `${`
//
// A value that is absent with neither default nor `?` is an error that names the field. Pure and thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace turnpike::policy {

enum class TemplateRoot : std::uint8_t { kInput, kFile, kOutput, kModel, kAnswer };

// Where a template stands says what it may refer to.
enum class TemplatePlace : std::uint8_t {
  kProgram,   // input, file, output
  kRequest,   // input, model
  kFollowUp,  // input, model, answer
};

enum class TemplateFilter : std::uint8_t { kNone, kMarkup, kInt, kNumber, kName, kOne, kIs };

struct TemplateReference {
  TemplateRoot root = TemplateRoot::kInput;
  std::vector<std::string> path;  // at least one segment; exactly one for file and output, none for model
  TemplateFilter filter = TemplateFilter::kNone;
  std::int64_t low = 0;  // kInt: the range; kNumber: the range in millionths
  std::int64_t high = 0;
  std::vector<std::string> words;  // kOne, kIs
  std::optional<std::string> fallback;
  bool optional = false;

  std::string name() const;  // "input.operations.resize", for messages
};

class Template {
 public:
  static constexpr std::size_t kTextBytesMax = 4096;
  static constexpr std::size_t kReferencesMax = 32;
  static constexpr std::size_t kExpandedBytesMax = 2U << 20;

  // nullopt: absent. Called once for each reference, in order.
  using Lookup = std::function<std::optional<std::string>(const TemplateReference&)>;

  // Errors: kConfiguration; the message says what is wrong and at which character.
  static Result<Template> parse(std::string_view text, TemplatePlace place = TemplatePlace::kProgram);

  // In order of appearance.
  std::vector<const TemplateReference*> references() const;

  // nullopt: an optional reference is absent, so the whole is. Errors: kInvalidRequest with the field as
  // param.
  Result<std::optional<std::string>> expand(const Lookup& lookup) const;

  // As expand, for one argument of a program. Also refuses a NUL byte, and a value of the user that would
  // begin the argument with '-' and so be read as an option (numbers that `int` or `number` let pass may be
  // negative).
  Result<std::optional<std::string>> expand_argument(const Lookup& lookup) const;

  // As expand, for an address: values are percent-encoded (a model's name keeps its slashes), and one of dots
  // alone, which would leave its folder, is refused.
  Result<std::optional<std::string>> expand_url(const Lookup& lookup) const;

  // The reference, if the template is nothing but one: such a field of a JSON body may be a number or a list.
  const TemplateReference* sole_reference() const;

  // As expand, where absent just means empty (`when`): never fails for an absent value.
  Result<std::string> expand_or_empty(const Lookup& lookup) const;

 private:
  using Piece = std::variant<std::string, TemplateReference>;
  enum class Use : std::uint8_t { kText, kArgument, kUrl, kCondition };
  Result<std::optional<std::string>> expand_checked(const Lookup& lookup, Use use) const;

  std::vector<Piece> pieces_;  // no two texts in a row
};

}  // namespace turnpike::policy
