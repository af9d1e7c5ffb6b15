#include "base/address.h"

#include <cstring>
#include <gtest/gtest.h>
#include <net/if.h>

namespace pccl {
namespace {

struct Good {
    const char *text, *host;
    std::uint16_t port;
};

TEST(ParseHostPort, ReadsEverySpelling) {
    const Good cases[] = {{"example.org:48148", "example.org", 48148},
                          {"example.org", "example.org", 0},
                          {":48148", "", 48148},
                          {"1.2.3.4:5", "1.2.3.4", 5},
                          {"[::1]:5", "::1", 5},
                          {"[::1]", "::1", 0},
                          {"::1", "::1", 0},
                          {"::", "::", 0},
                          {"2001:db8::7", "2001:db8::7", 0},
                          {"::ffff:1.2.3.4", "::ffff:1.2.3.4", 0},
                          {"host_1-a:0", "host_1-a", 0},
                          {"host:65535", "host", 65535}};
    for (const Good &good : cases) {
        const auto parsed = parse_host_port(good.text);
        ASSERT_TRUE(parsed) << good.text;
        EXPECT_EQ(parsed->host, good.host) << good.text;
        EXPECT_EQ(parsed->port, good.port) << good.text;
    }
}

TEST(ParseHostPort, RejectsAndQuotesInvalidText) {
    for (const char *text :
         {"",        ":",           "host:",        "host:65536", "host:99999", "host:123456", "host:-1", "host:+1",
          "host: 1", "host:1 ",     "host:1x",      "host:0x10",  "[]",         "[]:5",        "[::1",    "[::1]5",
          "[::1]:",  "[::1]:65536", "[1.2.3.4]:5",  "[host]:5",   "::1]:5",     "a:b:c",       "a:1:2",   "1:2:3:4",
          "ho st:1", "host/path:1", "tcp://host:1", "[[::1]]:5",  "ho%st:1",    "ho\nst"}) {
        const auto parsed = parse_host_port(text);
        ASSERT_FALSE(parsed) << text;
        EXPECT_EQ(parsed.error().code, pcclInvalidArgument) << text;
        const bool printable = !std::strchr(text, '\n');
        EXPECT_EQ(parsed.error().what.find('"' + std::string(text) + '"') != std::string::npos, printable) << parsed.error().what;
        EXPECT_EQ(parsed.error().what.find('\n'), std::string::npos);
    }
    EXPECT_FALSE(parse_host_port(std::string(256, 'a') + ":1"));
    EXPECT_LT(parse_host_port(std::string(1 << 20, ':')).error().what.size(), 200U);
    EXPECT_FALSE(parse_host_port(std::string_view("host\0x:1", 8)));
}

TEST(ParseIp, ReadsLiteralsOnly) {
    EXPECT_EQ(to_string(*parse_ip("127.0.0.1")), "127.0.0.1");
    EXPECT_EQ(to_string(*parse_ip("2001:DB8:0:0:0:0:0:7")), "2001:db8::7");
    EXPECT_TRUE(parse_ip("::")->v6);
    EXPECT_TRUE(parse_ip("::")->unspecified());
    EXPECT_TRUE(parse_ip("0.0.0.0")->unspecified());
    for (const char *text :
         {"", "localhost", "1.2.3", "1.2.3.256", "1.2.3.4.5", "01.2.3.4x", "1.2.3.4 ", " 1.2.3.4", "[::1]", ":::", "1::2::3"})
        EXPECT_FALSE(parse_ip(text)) << text;
    EXPECT_FALSE(parse_ip(std::string_view("1.2.3.4\0junk", 12)));
}

TEST(ParseIp, ReadsZonesByNameAndNumber) {
    const auto lo = ::if_nametoindex("lo");
    ASSERT_NE(lo, 0U);
    EXPECT_EQ(parse_ip("fe80::1%lo")->zone, lo);
    EXPECT_EQ(*parse_ip("fe80::1%" + std::to_string(lo)), *parse_ip("fe80::1%lo"));
    EXPECT_NE(*parse_ip("fe80::1%lo"), *parse_ip("fe80::1"));
    EXPECT_EQ(to_string(SocketAddress{*parse_ip("fe80::1%lo"), 5}), "[fe80::1%lo]:5");
    EXPECT_TRUE(parse_ip("fe80::1")->link_local());
    EXPECT_FALSE(parse_ip("fec0::1")->link_local());
    EXPECT_FALSE(parse_ip("254.128.0.1")->link_local());
    for (const char *text : {"fe80::1%", "fe80::1%no-such-if", "fe80::1%0", "fe80::1%4294967296", "fe80::1%lo ", "fe80::1%%lo",
                             "127.0.0.1%lo", "::ffff:1.2.3.4%lo"})
        EXPECT_FALSE(parse_ip(text)) << text;
}

TEST(ParseHostPort, KeepsTheZoneInTheHost) {
    for (const auto &[text, host, port] : {Good{"[fe80::1%lo]:48148", "fe80::1%lo", 48148}, Good{"[fe80::1%lo]", "fe80::1%lo", 0},
                                           Good{"fe80::1%lo", "fe80::1%lo", 0}, Good{"[::1%lo]:5", "::1%lo", 5}}) {
        const auto parsed = parse_host_port(text);
        ASSERT_TRUE(parsed) << parsed.error().what;
        EXPECT_EQ(parsed->host, host);
        EXPECT_EQ(parsed->port, port);
    }
    const auto unknown = parse_host_port("[fe80::1%no-such-if]:5");
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code, pcclInvalidArgument);
    EXPECT_NE(unknown.error().what.find("no network interface of this host is named \"no-such-if\""), std::string::npos)
        << unknown.error().what;
    EXPECT_FALSE(parse_host_port("fe80::1%lo:48148"));  // the port needs brackets before it
}

TEST(ParseIp, MappedAddressBecomesTheIPv4Address) {
    EXPECT_EQ(*parse_ip("::ffff:10.0.0.7"), *parse_ip("10.0.0.7"));
    EXPECT_FALSE(parse_ip("::ffff:10.0.0.7")->v6);
    EXPECT_TRUE(parse_ip("::10.0.0.7")->v6);
}

TEST(SocketAddress, TextReadsBack) {
    for (const char *text : {"1.2.3.4:5", "[::1]:48148", "0.0.0.0:0", "[2001:db8::7]:65535"}) {
        const auto parsed = parse_host_port(text);
        ASSERT_TRUE(parsed);
        EXPECT_EQ(to_string(SocketAddress{*parse_ip(parsed->host), parsed->port}), text);
    }
}

TEST(SocketAddress, SurvivesTheCForm) {
    for (const char *ip : {"1.2.3.4", "::1", "2001:db8::7", "0.0.0.0"}) {
        const SocketAddress address{*parse_ip(ip), 48148};
        EXPECT_EQ(from_c(to_c(address)), address) << ip;
    }
}

TEST(SocketAddress, ZeroedCFormIsAnyIPv4AndMappedIsIPv4) {
    ccoip_socket_address_t c{};
    EXPECT_EQ(to_string(from_c(c)), "0.0.0.0:0");
    c.inet.protocol = inetIPv6;
    c.inet.ipv6.data[10] = c.inet.ipv6.data[11] = 0xff;
    c.inet.ipv6.data[15] = 9;
    c.port = 80;
    EXPECT_EQ(to_string(from_c(c)), "0.0.0.9:80");
}

}  // namespace
}  // namespace pccl
