#include "policy/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace turnpike::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Expanded = std::optional<std::string>;

// Looks references up by name among these.
Template::Lookup among(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const TemplateReference& reference) -> Expanded {
    const auto found = values.find(reference.name());
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
}

Template good(std::string_view text) {
  auto parsed = Template::parse(text);
  EXPECT_TRUE(parsed) << text << ": " << (parsed ? "" : parsed.error().message);
  return parsed ? std::move(*parsed) : Template{};
}

// What one argument becomes, or the refusal's words.
std::string argument(std::string_view text, std::map<std::string, std::string> values) {
  const auto expanded = good(text).expand_argument(among(std::move(values)));
  if (!expanded) return "refused: " + expanded.error().message;
  return expanded->value_or("left out");
}

TEST(Template, PutsValuesWhereTheyAreNamed) {
  EXPECT_EQ(argument("plain", {}), "plain");
  EXPECT_EQ(argument("a${input.x}b${file.image}c${output.out}",
                     {{"input.x", "1"}, {"file.image", "/in"}, {"output.out", "o.wav"}}),
            "a1b/inco.wav");
  EXPECT_EQ(argument("${input.a.0.b_c}", {{"input.a.0.b_c", "deep"}}), "deep");
  EXPECT_EQ(argument("$${input.x} $5", {}), "${input.x} $5");
}

TEST(Template, NeverExpandsAValueAgain) {
  EXPECT_EQ(argument("<${input.x}>", {{"input.x", "${input.y}"}, {"input.y", "secret"}}), "<${input.y}>");
}

TEST(Template, TakesTheDefaultOrLeavesOutWhatIsAbsentOrEmpty) {
  for (const std::map<std::string, std::string>& values :
       {std::map<std::string, std::string>{}, std::map<std::string, std::string>{{"input.x", ""}}}) {
    EXPECT_EQ(argument("${input.x:-en}", values), "en");
    EXPECT_EQ(argument("[${input.x:-}]", values), "[]");
    EXPECT_EQ(argument("--height=${input.x?}", values), "left out");
  }
}

TEST(Template, RefusesWhatIsAbsentAndHasNoDefault) {
  EXPECT_EQ(argument("${input.x}", {}), "refused: input.x is required");
  EXPECT_EQ(argument("[${input.x}]", {{"input.x", ""}}), "[]");  // empty is a value
}

TEST(Template, RefusesAnArgumentThatAUserCouldTurnIntoAnOption) {
  EXPECT_EQ(argument("${input.x}", {{"input.x", "-rf"}}), "refused: input.x may not begin with '-'");
  EXPECT_EQ(argument("<${input.x}", {{"input.x", "-rf"}}), "<-rf");
  EXPECT_EQ(argument("${input.x|int(-5..5)}", {{"input.x", "-3"}}), "-3");
  EXPECT_EQ(argument("${input.x:--1}", {}), "-1");  // the operator's own
  EXPECT_THAT(argument("a${input.x}", {{"input.x", std::string("b\0c", 3)}}), HasSubstr("NUL"));
}

TEST(Template, EscapesMarkup) {
  EXPECT_EQ(argument("<b>${input.x|markup}</b>", {{"input.x", "<i>\"a\" & 'b'</i>"}}),
            "<b>&lt;i&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/i&gt;</b>");
}

TEST(Template, ChecksValuesButNotDefaults) {
  EXPECT_EQ(argument("${input.n|int(1..4096):-0}", {}), "0");
  EXPECT_EQ(argument("${input.n|int(1..4096)}", {{"input.n", "4096"}}), "4096");
  EXPECT_EQ(argument("${input.n|int(1..4096)}", {{"input.n", "4097"}}),
            "refused: input.n must be an integer from 1 to 4096");
  EXPECT_THAT(argument("${input.n|int(1..4096)}", {{"input.n", "12 --x"}}), HasSubstr("refused"));
  EXPECT_EQ(argument("${input.n|number(0.1..3)}", {{"input.n", "1.25"}}), "1.25");
  EXPECT_THAT(argument("${input.n|number(0.1..3)}", {{"input.n", "3.000001"}}), HasSubstr("from 0.1 to 3"));
  EXPECT_THAT(argument("${input.n|number(0.1..3)}", {{"input.n", "1e0"}}), HasSubstr("refused"));
  EXPECT_EQ(argument("${input.v|name}", {{"input.v", "en-us+f3"}}), "en-us+f3");
  EXPECT_THAT(argument("${input.v|name}", {{"input.v", "../etc/passwd"}}), HasSubstr("refused"));
  EXPECT_EQ(argument("${input.f|one(png,jpeg)}", {{"input.f", "gif"}}),
            "refused: input.f must be one of png, jpeg");
}

TEST(Template, SaysInAConditionWhetherAnyOrEveryValueIsThere) {
  const auto holds = [](std::string_view text, std::map<std::string, std::string> values) {
    const auto expanded = good(text).expand_or_empty(among(std::move(values)));
    return expanded && !expanded->empty();
  };
  const std::map<std::string, std::string> one{{"input.w", "1"}};
  const std::map<std::string, std::string> both{{"input.w", "1"}, {"input.h", "2"}};
  EXPECT_FALSE(holds("${input.w}${input.h}", {}));
  EXPECT_TRUE(holds("${input.w}${input.h}", one));     // any
  EXPECT_FALSE(holds("${input.w?}${input.h?}", one));  // every
  EXPECT_TRUE(holds("${input.w?}${input.h?}", both));
  EXPECT_TRUE(holds("${input.f|is(jpeg)}", {{"input.f", "jpeg"}}));
  EXPECT_FALSE(holds("${input.f|is(jpeg)}", {{"input.f", "png"}}));
}

TEST(Template, NamesWhatIsWrongWithItsText) {
  for (const char* bad :
       {"${", "${}", "${input}", "${input.}", "${env:KEY}", "${input.a b}", "${file.a.b}", "${input.x|upper}",
        "${input.x|int(5..1)}", "${input.x|int(1)}", "${input.x|number}", "${input.x|one()}",
        "${input.x|one(a,)}", "${input.x|markup(1)}", "${input.x|int(1..2}"})
    EXPECT_FALSE(Template::parse(bad)) << bad;
  EXPECT_FALSE(Template::parse(std::string(Template::kTextBytesMax + 1, 'x')));
  std::string many;
  for (std::size_t i = 0; i <= Template::kReferencesMax; ++i) many += "${input.x}";
  EXPECT_FALSE(Template::parse(many));
  EXPECT_EQ(Template::parse("ab${x}").error().code, ErrorCode::kConfiguration);
  EXPECT_THAT(Template::parse("ab${x}").error().message, HasSubstr("at character 3"));
}

TEST(Template, ListsItsReferences) {
  const Template parsed = good("${input.a}-${output.b:-c}");
  std::vector<std::string> names;
  for (const TemplateReference* reference : parsed.references()) names.push_back(reference->name());
  EXPECT_THAT(names, ElementsAre("input.a", "output.b"));
}

TEST(Template, BoundsWhatItBecomes) {
  const std::string large(Template::kExpandedBytesMax / 2 + 1, 'x');
  EXPECT_EQ(argument("${input.x}${input.x}", {{"input.x", large}}), "refused: input.x is too long");
}

// --- Templates of requests

std::string url(std::string_view text, std::map<std::string, std::string> values) {
  const auto parsed = Template::parse(text, TemplatePlace::kFollowUp);
  if (!parsed) return "mistake: " + parsed.error().message;
  const auto expanded = parsed->expand_url(among(std::move(values)));
  if (!expanded) return "refused: " + expanded.error().message;
  return expanded->value_or("left out");
}

TEST(RequestTemplate, EncodesWhatGoesIntoAnAddress) {
  EXPECT_EQ(url("/v/${input.x}?q=1", {{"input.x", "a b/c?d&e=%\xC3\xA4~._-"}}),
            "/v/a%20b%2Fc%3Fd%26e%3D%25%C3%A4~._-?q=1");
  EXPECT_EQ(url("/${model}/run", {{"model", "fal-ai/flux dev"}}), "/fal-ai/flux%20dev/run");
  EXPECT_EQ(url("/jobs/${answer.id}", {{"answer.id", "r-1/../x"}}), "/jobs/r-1%2F..%2Fx");
}

TEST(RequestTemplate, NobodyLeavesTheFolderByDots) {
  for (const char* dots : {".", "..", "..."})
    EXPECT_EQ(url("/v/${input.x}/y", {{"input.x", dots}}), "refused: input.x must not be dots alone");
  EXPECT_EQ(url("/v/${input.x}", {{"input.x", "..a"}}), "/v/..a");
}

TEST(RequestTemplate, RefersOnlyToWhatIsThereWhereItStands) {
  const auto fits = [](const char* text, TemplatePlace place) {
    return Template::parse(text, place).has_value();
  };
  EXPECT_TRUE(fits("${input.x}${model}", TemplatePlace::kRequest));
  EXPECT_FALSE(fits("${answer.x}", TemplatePlace::kRequest));
  EXPECT_TRUE(fits("${input.x}${model}${answer.a.0.b}", TemplatePlace::kFollowUp));
  EXPECT_FALSE(fits("${model.x}", TemplatePlace::kRequest));
  EXPECT_FALSE(fits("${answer}", TemplatePlace::kFollowUp));
  EXPECT_FALSE(fits("${file.x}", TemplatePlace::kRequest));
  EXPECT_FALSE(fits("${model}", TemplatePlace::kProgram));
  EXPECT_FALSE(fits("${answer.x}", TemplatePlace::kProgram));
}

TEST(RequestTemplate, KnowsWhetherItIsOneReferenceAlone) {
  const auto sole = [](const char* text) {
    const auto parsed = Template::parse(text, TemplatePlace::kRequest);
    return parsed && parsed->sole_reference() != nullptr ? parsed->sole_reference()->name() : "";
  };
  EXPECT_EQ(sole("${input.x|int?}"), "input.x");
  EXPECT_EQ(sole("${model}"), "model");
  EXPECT_EQ(sole(" ${input.x}"), "");
  EXPECT_EQ(sole("${input.x}${input.y}"), "");
  EXPECT_EQ(sole("x"), "");
}

}  // namespace
}  // namespace turnpike::policy
