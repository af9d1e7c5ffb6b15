// The C interface of masters, and what all functions share: initialization and error texts.
#include <cstring>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <pccl/pccl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/listen_address.h"
#include "api/state.h"

namespace pccl::api {
namespace {

pcclMasterConfig_t config_on(const char *address) {
    pcclMasterConfig_t config;
    EXPECT_EQ(pcclMasterConfigInit(&config), pcclSuccess);
    config.listen_address = address;
    return config;
}

class Master : public ::testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(pcclInit(), pcclSuccess); }
};

TEST_F(Master, RunsOnceUntilInterrupted) {
    const pcclMasterConfig_t config = config_on("127.0.0.1:0");
    pcclMasterInstance_t *master = nullptr;
    ASSERT_EQ(pcclCreateMasterWithConfig(&config, &master), pcclSuccess) << pcclGetLastError();
    std::uint16_t port = 0;
    EXPECT_EQ(pcclMasterGetPort(master, &port), pcclSuccess);
    EXPECT_NE(port, 0);
    EXPECT_EQ(pcclInterruptMaster(master), pcclInvalidUsage);
    EXPECT_EQ(pcclMasterAwaitTermination(master), pcclInvalidUsage);
    ASSERT_EQ(pcclRunMaster(master), pcclSuccess);
    EXPECT_EQ(pcclRunMaster(master), pcclInvalidUsage);
    std::thread waits([&] { EXPECT_EQ(pcclMasterAwaitTermination(master), pcclSuccess); });
    EXPECT_EQ(pcclInterruptMaster(master), pcclSuccess);
    EXPECT_EQ(pcclMasterAwaitTermination(master), pcclSuccess);
    waits.join();
    EXPECT_EQ(pcclInterruptMaster(master), pcclInvalidUsage);
    EXPECT_EQ(pcclRunMaster(master), pcclInvalidUsage);
    EXPECT_EQ(pcclDestroyMaster(master), pcclSuccess);
}

TEST_F(Master, MayBeDestroyedInAnyState) {
    for (const bool run : {false, true}) {
        pcclMasterInstance_t *master = nullptr;
        ccoip_socket_address_t address{};
        address.inet.ipv4.data[0] = 127;
        address.inet.ipv4.data[3] = 1;
        ASSERT_EQ(pcclCreateMaster(address, &master), pcclSuccess) << pcclGetLastError();
        if (run) {
            ASSERT_EQ(pcclRunMaster(master), pcclSuccess);
        }
        EXPECT_EQ(pcclDestroyMaster(master), pcclSuccess);
    }
}

TEST_F(Master, ReportsThatAPortIsTaken) {
    const pcclMasterConfig_t config = config_on("127.0.0.1:0");
    pcclMasterInstance_t *master = nullptr;
    ASSERT_EQ(pcclCreateMasterWithConfig(&config, &master), pcclSuccess);
    std::uint16_t port = 0;
    ASSERT_EQ(pcclMasterGetPort(master, &port), pcclSuccess);
    const std::string taken = "127.0.0.1:" + std::to_string(port);
    const pcclMasterConfig_t again = config_on(taken.c_str());
    pcclMasterInstance_t *second = nullptr;
    EXPECT_EQ(pcclCreateMasterWithConfig(&again, &second), pcclMasterConnectionFailed);
    EXPECT_EQ(second, nullptr);
    EXPECT_NE(std::string(pcclGetLastError()).find(taken), std::string::npos) << pcclGetLastError();
    EXPECT_EQ(pcclDestroyMaster(master), pcclSuccess);
}

TEST_F(Master, RejectsInvalidArgumentsWithAReason) {
    pcclMasterInstance_t *master = nullptr;
    std::uint16_t port = 0;
    const pcclMasterConfig_t good = config_on("127.0.0.1:0");
    EXPECT_EQ(pcclMasterConfigInit(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclCreateMaster({}, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclCreateMasterWithConfig(nullptr, &master), pcclInvalidArgument);
    EXPECT_EQ(pcclCreateMasterWithConfig(&good, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclMasterGetPort(nullptr, &port), pcclInvalidArgument);
    EXPECT_EQ(pcclRunMaster(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclInterruptMaster(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclMasterAwaitTermination(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclDestroyMaster(nullptr), pcclInvalidArgument);

    const auto rejected = [&](auto change, const char *word) {
        pcclMasterConfig_t config = good;
        change(config);
        EXPECT_EQ(pcclCreateMasterWithConfig(&config, &master), pcclInvalidArgument) << word;
        EXPECT_NE(std::string(pcclGetLastError()).find(word), std::string::npos) << pcclGetLastError();
    };
    rejected([](auto &c) { c.struct_size = 0; }, "pcclMasterConfigInit");
    rejected([](auto &c) { c.listen_address = nullptr; }, "listen_address");
    rejected([](auto &c) { c.listen_address = "a:b:c"; }, "a:b:c");
    rejected([](auto &c) { c.heartbeat_timeout_ms = 99; }, "heartbeat_timeout_ms");
    rejected([](auto &c) { c.misuse_grace_ms = 0; }, "misuse_grace_ms");
    rejected([](auto &c) { c.max_connections = 0; }, "max_connections");
    EXPECT_EQ(master, nullptr);
}

TEST_F(Master, ReadsListenAddresses) {
    const std::pair<const char *, const char *> good[] = {{"127.0.0.1:5", "127.0.0.1:5"},
                                                          {"127.0.0.1", "127.0.0.1:48148"},
                                                          {"127.0.0.1:0", "127.0.0.1:0"},
                                                          {":5", "0.0.0.0:5"},
                                                          {"5", "0.0.0.0:5"},
                                                          {"[::1]:5", "[::1]:5"},
                                                          {"[::]", "[::]:48148"},
                                                          {"::1", "[::1]:48148"}};
    for (const auto &[text, expected] : good) {
        const auto parsed = parse_listen_address(text);
        ASSERT_TRUE(parsed) << text << ": " << parsed.error().what;
        EXPECT_EQ(to_string(*parsed), expected) << text;
    }
    for (const char *bad : {"", "host:", "70000", ":70000", "[::1", "name.invalid:1"}) {
        const auto parsed = parse_listen_address(bad);
        ASSERT_FALSE(parsed) << bad;
        EXPECT_EQ(parsed.error().code, pcclInvalidArgument);
    }
}

/// In a fork neither threads nor connections of the parent exist.
TEST_F(Master, HandlesOfAParentProcessAreRefusedInAFork) {
    const pcclMasterConfig_t config = config_on("127.0.0.1:0");
    pcclMasterInstance_t *master = nullptr;
    ASSERT_EQ(pcclCreateMasterWithConfig(&config, &master), pcclSuccess);
    ASSERT_EQ(pcclRunMaster(master), pcclSuccess);
    pcclCommConfig_t where;
    ASSERT_EQ(pcclCommConfigInit(&where), pcclSuccess);
    where.master_address = "127.0.0.1:1";
    pcclComm_t *comm = nullptr;
    ASSERT_EQ(pcclCreateCommunicatorWithConfig(&where, &comm), pcclSuccess);
    const pid_t child = ::fork();
    if (child == 0) {
        int wrong = 0;
        for (const pcclResult_t result : {pcclInterruptMaster(master), pcclMasterAwaitTermination(master), pcclRunMaster(master),
                                          pcclConnect(comm), pcclUpdateTopology(comm), pcclAbort(comm)})
            wrong += result == pcclInvalidUsage ? 0 : 1;
        wrong += std::string(pcclGetLastError()).find("fork") == std::string::npos ? 1 : 0;
        wrong += pcclDestroyCommunicator(comm) == pcclSuccess && pcclDestroyMaster(master) == pcclSuccess ? 0 : 1;
        ::_exit(wrong);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(pcclDestroyCommunicator(comm), pcclSuccess);
    EXPECT_EQ(pcclDestroyMaster(master), pcclSuccess);
}

TEST(Errors, EveryCodeHasAPhraseAndSoDoUnknownCodes) {
    for (int code = 0; code < pcclStatusEnd_; ++code)
        EXPECT_STRNE(pcclGetErrorString(static_cast<pcclResult_t>(code)), "unknown status code") << code;
    EXPECT_STREQ(pcclGetErrorString(pcclStatusEnd_), "unknown status code");
    EXPECT_STREQ(pcclGetErrorString(static_cast<pcclResult_t>(15)), "unknown status code");
}

TEST(Errors, TheLastFailureBelongsToItsThreadAndOutlivesSuccess) {
    ASSERT_EQ(pcclInit(), pcclSuccess);
    EXPECT_EQ(pcclGetVersion(nullptr), pcclInvalidArgument);
    const std::string words = pcclGetLastError();
    EXPECT_NE(words, "");
    std::thread([] { EXPECT_STREQ(pcclGetLastError(), ""); }).join();
    int version = 0;
    EXPECT_EQ(pcclGetVersion(&version), pcclSuccess);
    EXPECT_EQ(version, 20000);
    EXPECT_EQ(pcclGetLastError(), words);
}

TEST(Errors, ExceptionsBecomeInternalErrors) {
    EXPECT_EQ(guarded([]() -> pcclResult_t { throw std::bad_alloc(); }), pcclInternalError);
    EXPECT_EQ(std::string(pcclGetLastError()).rfind("out of memory: ", 0), 0U) << pcclGetLastError();
    EXPECT_EQ(guarded([]() -> pcclResult_t { throw 1; }), pcclInternalError);
    EXPECT_EQ(guarded([]() -> pcclResult_t { throw std::string(); }), pcclInternalError);
}

}  // namespace
}  // namespace pccl::api
