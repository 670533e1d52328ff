#include "webhook/signature.h"

#include <gtest/gtest.h>

#include <string>

namespace turnpike::webhook {
namespace {

TEST(Signature, IsTheOneThatTheSpecificationKnows) {
  EXPECT_EQ(sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek",
                 wall_from_seconds(1614265330), R"({"test": 2432232314})"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

TEST(Signature, TakesSecretsOfAnyPadding) {
  // "secret", "secrets", "secretss" carry 6, 7 and 8 bytes; that of the second was computed with Python's
  // hmac.
  const Wall at = wall_from_seconds(1);
  EXPECT_EQ(sign("whsec_c2VjcmV0cw==", "a", at, "b"), "v1,JHGoKtyC+a7Yx7LXyuZsjRofgJ8IqeLYhH8jLgCsHwQ=");
  EXPECT_NE(sign("whsec_c2VjcmV0", "a", at, "b"), sign("whsec_c2VjcmV0cw==", "a", at, "b"));
  EXPECT_NE(sign("whsec_c2VjcmV0c3M=", "a", at, "b"), sign("whsec_c2VjcmV0cw==", "a", at, "b"));
}

TEST(Signature, OfWhatIsNoSecretIsEmpty) {
  for (const char* secret : {"", "whsec_", "c2VjcmV0", "whsec_c2V", "whsec_!!!!"}) {
    EXPECT_EQ(sign(secret, "a", wall_from_seconds(1), "b"), "") << secret;
  }
}

TEST(Signature, SecretsDifferAndSign) {
  const std::string one = make_secret();
  EXPECT_TRUE(one.starts_with("whsec_"));
  EXPECT_EQ(one.size(), 6U + 32U);
  EXPECT_NE(one, make_secret());
  EXPECT_NE(sign(one, "a", wall_from_seconds(1), "b"), "");
}

}  // namespace
}  // namespace turnpike::webhook
