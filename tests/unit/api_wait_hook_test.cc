// pcclSetWaitHook: the library calls the hook while a call blocks, on the thread of that call. The hook can end the call.
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <pccl/pccl.h>

namespace pccl::api {
namespace {

/// A master and two communicators in this process.
class WaitHook : public ::testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(pcclInit(), pcclSuccess);
        pcclMasterConfig_t config;
        ASSERT_EQ(pcclMasterConfigInit(&config), pcclSuccess);
        config.listen_address = "127.0.0.1:0";
        ASSERT_EQ(pcclCreateMasterWithConfig(&config, &master_), pcclSuccess) << pcclGetLastError();
        ASSERT_EQ(pcclMasterGetPort(master_, &port_), pcclSuccess);
        ASSERT_EQ(pcclRunMaster(master_), pcclSuccess);
        for (auto &comm : comms_) {
            pcclCommConfig_t peer;
            ASSERT_EQ(pcclCommConfigInit(&peer), pcclSuccess);
            const std::string address = "127.0.0.1:" + std::to_string(port_);
            peer.master_address = address.c_str();
            ASSERT_EQ(pcclCreateCommunicatorWithConfig(&peer, &comm), pcclSuccess) << pcclGetLastError();
        }
        ASSERT_EQ(pcclConnect(comms_[0]), pcclSuccess) << pcclGetLastError();
    }
    void TearDown() override {
        EXPECT_EQ(pcclSetWaitHook(nullptr, nullptr), pcclSuccess);
        for (auto *comm : comms_)
            EXPECT_EQ(pcclDestroyCommunicator(comm), pcclSuccess);
        EXPECT_EQ(pcclDestroyMaster(master_), pcclSuccess);
    }

    void admit_the_second() {
        std::thread newcomer([&] { EXPECT_EQ(pcclConnect(comms_[1]), pcclSuccess) << pcclGetLastError(); });
        for (int members = 1; members < 2;) {
            ASSERT_EQ(pcclUpdateTopology(comms_[0]), pcclSuccess) << pcclGetLastError();
            ASSERT_EQ(pcclGetAttribute(comms_[0], PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &members), pcclSuccess);
        }
        newcomer.join();
    }

    pcclMasterInstance_t *master_ = nullptr;
    std::uint16_t port_ = 0;
    pcclComm_t *comms_[2] = {};
};

struct Patience {
    pcclComm_t *comm;
    std::thread::id thread = std::this_thread::get_id();
    int asked = 0;
    bool elsewhere = false;
};

void abort_when_asked_twice(void *context) {
    auto &patience = *static_cast<Patience *>(context);
    patience.elsewhere |= std::this_thread::get_id() != patience.thread;
    if (++patience.asked == 2) {
        EXPECT_EQ(pcclAbort(patience.comm), pcclSuccess);
    }
}

TEST_F(WaitHook, EndsAConnectThatIsNotAdmitted) {
    Patience patience{comms_[1]};
    ASSERT_EQ(pcclSetWaitHook(abort_when_asked_twice, &patience), pcclSuccess);
    EXPECT_EQ(pcclConnect(comms_[1]), pcclRankConnectionLost);
    EXPECT_GE(patience.asked, 2);
    EXPECT_FALSE(patience.elsewhere);
}

TEST_F(WaitHook, EndsReducesThatTheOtherPeerDoesNotCall) {
    admit_the_second();
    Patience patience{comms_[0]};
    ASSERT_EQ(pcclSetWaitHook(abort_when_asked_twice, &patience), pcclSuccess);
    float values[4] = {1, 2, 3, 4};
    pcclReduceOpDescriptor_t op{values, values, {4, pcclSum, 7, {pcclFloat, pcclDistributionNone}, {}}};
    EXPECT_EQ(pcclAllReduce(values, values, &op.descriptor, comms_[0], nullptr), pcclRankConnectionLost);
    EXPECT_EQ(patience.asked, 2);

    // All-reduces are retried after a loss only. An abort ends the retries as well.
    patience.asked = 0;
    EXPECT_EQ(pcclAllReduceMultipleWithRetry(&op, 1, comms_[0], nullptr, 1), pcclRankConnectionLost);
    EXPECT_GE(patience.asked, 2);
    EXPECT_EQ(values[3], 4);
}

TEST_F(WaitHook, AppliesToItsThreadOnly) {
    Patience patience{comms_[1]};
    ASSERT_EQ(pcclSetWaitHook(abort_when_asked_twice, &patience), pcclSuccess);
    admit_the_second();  // it connects on another thread, for which the hook is not called
    std::thread waits([&] {
        float value = 1;
        const pcclReduceDescriptor_t descriptor{1, pcclSum, 0, {pcclFloat, pcclDistributionNone}, {}};
        EXPECT_EQ(pcclAllReduce(&value, &value, &descriptor, comms_[1], nullptr), pcclSuccess) << pcclGetLastError();
    });
    ASSERT_EQ(pcclSetWaitHook(nullptr, nullptr), pcclSuccess);
    float value = 1;
    const pcclReduceDescriptor_t descriptor{1, pcclSum, 0, {pcclFloat, pcclDistributionNone}, {}};
    EXPECT_EQ(pcclAllReduce(&value, &value, &descriptor, comms_[0], nullptr), pcclSuccess) << pcclGetLastError();
    EXPECT_EQ(value, 2);
    waits.join();
    EXPECT_FALSE(patience.elsewhere);
}

}  // namespace
}  // namespace pccl::api
