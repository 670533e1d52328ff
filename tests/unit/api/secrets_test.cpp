#include <gtest/gtest.h>

#include <chrono>

#include "api/crypto.h"
#include "api/keys.h"
#include "api/tickets.h"

namespace turnpike::api {
namespace {

constexpr Wall kNow = wall_from_seconds(1'790'000'000);

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    text += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    text += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

journal::KeyRow key(std::string_view secret, std::uint64_t id) {
  journal::KeyRow row;
  row.id = KeyId{id};
  row.hash = sha256(secret);
  row.role = journal::Role::kAdmin;
  row.created_at = kNow;
  return row;
}

TEST(Crypto, KnowsTheKnownAnswers) {
  // FIPS 180-2, appendix B.1; RFC 4231, test case 2; RFC 4648, section 10.
  EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(base64url("foob"), "Zm9vYg");
  EXPECT_EQ(base64url_decode("Zm9vYg"), "foob");
  EXPECT_EQ(base64url_decode(base64url("\xff\xfe\xfd")), "\xff\xfe\xfd");
  EXPECT_EQ(base64url_decode("a+b"), "");
}

TEST(Crypto, MakesKeysOf256BitsThatDiffer) {
  const std::string one = make_key_secret();
  EXPECT_EQ(one.size(), 46U);
  EXPECT_TRUE(one.starts_with("tp_"));
  EXPECT_EQ(base64url_decode(std::string_view(one).substr(3)).size(), 32U);
  EXPECT_NE(one, make_key_secret());
}

TEST(KeyStore, KnowsItsKeysByTheirHashOnly) {
  KeyStore keys({key("secret", 1)});
  ASSERT_TRUE(keys.authenticate("secret", kNow));
  EXPECT_EQ(keys.authenticate("secret", kNow)->id, KeyId{1});
  EXPECT_EQ(keys.authenticate("Secret", kNow).error().code, ErrorCode::kInvalidApiKey);
  EXPECT_EQ(keys.authenticate(sha256("secret"), kNow).error().code, ErrorCode::kInvalidApiKey);
}

TEST(KeyStore, RefusesRevokedAndExpiredKeysAndSaysSo) {
  auto expiring = key("a", 1);
  expiring.expires_at = kNow + std::chrono::seconds(10);
  auto revoked = key("b", 2);
  revoked.revoked_at = kNow;
  const KeyStore keys({expiring, revoked});
  EXPECT_TRUE(keys.authenticate("a", kNow));
  EXPECT_NE(keys.authenticate("a", expiring.expires_at).error().message.find("expired"), std::string::npos);
  EXPECT_NE(keys.authenticate("b", kNow).error().message.find("revoked"), std::string::npos);
  EXPECT_TRUE(keys.has_usable_admin(kNow));
  EXPECT_FALSE(keys.has_usable_admin(expiring.expires_at));
}

TEST(KeyStore, FollowsChanges) {
  KeyStore keys({});
  auto row = key("a", 1);
  keys.put(row);
  EXPECT_TRUE(keys.authenticate("a", kNow));
  row.revoked_at = kNow;
  keys.put(row);
  EXPECT_FALSE(keys.authenticate("a", kNow));
  EXPECT_EQ(keys.all().size(), 1U);
  EXPECT_FALSE(keys.find(KeyId{2}));
}

TEST(Tickets, OpenWhatTheyWereIssuedForUntilTheyExpire) {
  const Tickets tickets;
  const std::string ticket = tickets.issue(AccountId{7}, kNow);
  ASSERT_TRUE(tickets.redeem(ticket, kNow));
  EXPECT_EQ(tickets.redeem(ticket, kNow)->account, AccountId{7});
  EXPECT_TRUE(tickets.redeem(ticket, kNow + kTicketLife - Duration{1}));
  EXPECT_FALSE(tickets.redeem(ticket, kNow + kTicketLife));
  const auto all = tickets.redeem(tickets.issue(std::nullopt, kNow), kNow);
  ASSERT_TRUE(all);
  EXPECT_FALSE(all->account);
}

TEST(Tickets, AreWorthlessOnceChangedAndElsewhere) {
  const Tickets tickets;
  const std::string ticket = tickets.issue(AccountId{7}, kNow);
  for (std::size_t i = 4; i + 1 < ticket.size(); ++i) {
    std::string changed = ticket;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(tickets.redeem(changed, kNow)) << i;
  }
  EXPECT_FALSE(tickets.redeem("", kNow));
  EXPECT_FALSE(tickets.redeem("tkt_", kNow));
  EXPECT_FALSE(tickets.redeem(std::string(100'000, 'A'), kNow));
  EXPECT_FALSE(Tickets().redeem(ticket, kNow));
}

}  // namespace
}  // namespace turnpike::api
