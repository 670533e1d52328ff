#include "net/public_address.h"

#include <gtest/gtest.h>

#include <string>

namespace turnpike::net {
namespace {

TEST(PublicAddress, IsWhatIsGivenOutOnTheInternet) {
  for (const char* text :
       {"1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255",
        "172.32.0.0", "192.169.0.1", "169.253.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255",
        "2606:4700::1111", "2a00:1450:4001::200e", "::ffff:8.8.8.8", "2001:4860:4860::8888"}) {
    EXPECT_TRUE(is_public_address(text)) << text;
  }
}

TEST(PublicAddress, IsNotWhatLeadsHomeOrNowhere) {
  for (const char* text : {"0.0.0.0",
                           "0.1.2.3",
                           "10.0.0.1",
                           "10.255.255.255",
                           "100.64.0.1",
                           "100.127.255.255",
                           "127.0.0.1",
                           "127.255.255.254",
                           "169.254.169.254",
                           "172.16.0.1",
                           "172.31.255.255",
                           "192.0.0.8",
                           "192.0.2.1",
                           "192.88.99.1",
                           "192.168.1.1",
                           "198.18.0.1",
                           "198.19.255.255",
                           "198.51.100.7",
                           "203.0.113.7",
                           "224.0.0.1",
                           "239.255.255.250",
                           "240.0.0.1",
                           "255.255.255.255",
                           "::",
                           "::1",
                           "::ffff:127.0.0.1",
                           "::ffff:10.0.0.1",
                           "::7f00:1",
                           "64:ff9b::7f00:1",
                           "64:ff9b:1::1",
                           "100::1",
                           "fc00::1",
                           "fd12:3456::1",
                           "fe80::1",
                           "fec0::1",
                           "ff02::1",
                           "2001::1",
                           "2001:10::1",
                           "2001:db8::1",
                           "2002:7f00:1::",
                           "2002:a00:1::1",
                           "3fff::1",
                           "5f00::1",
                           "",
                           "localhost",
                           "1.2.3",
                           "2130706433"}) {
    EXPECT_FALSE(is_public_address(text)) << text;
  }
}

TEST(PublicAddress, AUrlIsCheckedAsFarAsItSays) {
  for (const char* url :
       {"https://example.com/hook", "http://93.184.216.34:8080/x", "https://[2606:4700::1]/"}) {
    EXPECT_TRUE(check_public_url(url)) << url;
  }
  for (const char* url :
       {"http://127.0.0.1/", "https://[::1]/", "https://[::ffff:a9fe:a9fe]/latest/meta-data",
        "http://169.254.169.254/", "unix:/run/docker.sock:/v1", "ftp://example.com/",
        "https://user:secret@example.com/", "example.com", ""}) {
    EXPECT_FALSE(check_public_url(url)) << url;
  }
}

}  // namespace
}  // namespace turnpike::net
