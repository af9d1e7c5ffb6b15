#include "base/lookup.h"

#include <future>

#include <gtest/gtest.h>

#include "base/resolve.h"

namespace pccl {
namespace {

Result<Lookup::Addresses> found(const std::string &host) {
    std::promise<Result<Lookup::Addresses>> answer;
    const Lookup lookup(host, [&](const Result<Lookup::Addresses> &result) { answer.set_value(result); });
    return answer.get_future().get();
}

TEST(Lookup, FindsEveryAddressOfAName) {
    const auto addresses = found("localhost");
    ASSERT_TRUE(addresses) << addresses.error().what;
    for (const IpAddress &ip : *addresses)
        EXPECT_TRUE(ip == *parse_ip("127.0.0.1") || ip == *parse_ip("::1")) << to_string(ip);
}

TEST(Lookup, UnknownNameIsAnErrorThatQuotesIt) {
    const auto addresses = found("no-such-host.invalid");
    ASSERT_FALSE(addresses);
    EXPECT_EQ(addresses.error().code, pcclInvalidArgument);
    EXPECT_NE(addresses.error().what.find("\"no-such-host.invalid\""), std::string::npos);
}

TEST(Lookup, DestroyedLookupIsNotCalledBack) {
    for (int i = 0; i < 200; ++i) {
        auto alive = std::make_shared<std::atomic<bool>>(true);
        {
            const Lookup lookup("localhost", [alive](const Result<Lookup::Addresses> &) { EXPECT_TRUE(*alive); });
        }
        *alive = false;
    }
    EXPECT_TRUE(found("localhost"));
}

TEST(Lookup, EachOfSeveralLookupsIsAnswered) {
    std::promise<bool> first, second;
    const Lookup one("localhost", [&](const Result<Lookup::Addresses> &result) { first.set_value(static_cast<bool>(result)); });
    const Lookup two("localhost", [&](const Result<Lookup::Addresses> &result) { second.set_value(static_cast<bool>(result)); });
    EXPECT_TRUE(first.get_future().get());
    EXPECT_TRUE(second.get_future().get());
}

TEST(Resolve, EndsAtItsDeadline) {
    int asked = 0;
    // The deadline has already passed, so no answer can arrive in time.
    EXPECT_FALSE(resolve("localhost", Duration(0), [&] { return ++asked > 0; }));
    const auto ip = resolve("localhost");
    ASSERT_TRUE(ip);
    EXPECT_EQ(to_string(*ip), "127.0.0.1");
    EXPECT_EQ(to_string(*resolve("::1")), "::1");
}

}  // namespace
}  // namespace pccl
