// Wrong arguments of every function: calls before pcclInit, NULL, zero, unknown values, calls without a connection.
#include "common/handles.h"
#include "harness/world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <vector>

namespace pccl::itest {
namespace {

pcclReduceDescriptor_t valid_descriptor() {
    pcclReduceDescriptor_t d{};
    d.count = 4;
    d.src_descriptor.datatype = pcclFloat;
    return d;
}

pcclCommCreateParams_t valid_params(std::uint16_t port = 1) {
    pcclCommCreateParams_t params{};
    params.master_address.inet.protocol = inetIPv4;
    params.master_address.inet.ipv4 = {{127, 0, 0, 1}};
    params.master_address.port = port;
    return params;
}

constexpr auto kPopular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;

struct Named {
    const char *name;
    pcclResult_t result;
};

/// Calls that need pcclInit, with valid arguments.
std::vector<Named> calls_before_init() {
    pcclComm_t *comm = nullptr;
    const pcclCommCreateParams_t params = valid_params();
    pcclCommConfig_t comm_config{};
    static_cast<void>(pcclCommConfigInit(&comm_config));
    comm_config.master_address = "127.0.0.1:1";
    return {{"pcclCreateCommunicator", pcclCreateCommunicator(&params, &comm)},
            {"pcclCreateCommunicatorWithConfig", pcclCreateCommunicatorWithConfig(&comm_config, &comm)}};
}

/// Calls that do not need pcclInit: those on masters, and those without a handle.
std::vector<Named> master_calls_before_init() {
    std::vector<Named> calls;
    pcclMasterConfig_t master_config{};
    static_cast<void>(pcclMasterConfigInit(&master_config));
    master_config.listen_address = "127.0.0.1:0";
    ccoip_socket_address_t address{};
    address.inet.ipv4 = {{127, 0, 0, 1}};
    for (const bool with_config : {false, true}) {
        pcclMasterInstance_t *master = nullptr;
        calls.push_back(with_config ? Named{"pcclCreateMasterWithConfig", pcclCreateMasterWithConfig(&master_config, &master)}
                                    : Named{"pcclCreateMaster", pcclCreateMaster(address, &master)});
        if (!master) continue;
        std::uint16_t port = 0;
        calls.push_back({"pcclMasterGetPort", pcclMasterGetPort(master, &port)});
        calls.push_back({"pcclRunMaster", pcclRunMaster(master)});
        calls.push_back({"pcclInterruptMaster", pcclInterruptMaster(master)});
        calls.push_back({"pcclMasterAwaitTermination", pcclMasterAwaitTermination(master)});
        calls.push_back({"pcclDestroyMaster", pcclDestroyMaster(master)});
    }
    pcclBuildInfo_t build{};
    calls.push_back({"pcclGetBuildInfo", pcclGetBuildInfo(&build)});
    int version = 0;
    calls.push_back({"pcclGetVersion", pcclGetVersion(&version)});
    return calls;
}

std::vector<Named> before_init, master_before_init;

TEST(BeforeInit, CommunicatorCallsAreNotInitialized) {
    for (const Named &call : before_init)
        EXPECT_EQ(call.result, pcclNotInitialized) << call.name;
}

TEST(BeforeInit, MasterCallsSucceed) {
    EXPECT_EQ(master_before_init.size(), 14U);
    for (const Named &call : master_before_init)
        EXPECT_EQ(call.result, pcclSuccess) << call.name;
}

TEST(Library, InitMayBeCalledAgain) {
    EXPECT_EQ(pcclInit(), pcclSuccess);
    EXPECT_EQ(pcclInit(), pcclSuccess);
}

TEST(Library, ErrorStringsAreNeverNull) {
    for (int code = -3; code < 40; ++code) {
        const char *text = pcclGetErrorString(static_cast<pcclResult_t>(code));
        ASSERT_NE(text, nullptr);
        EXPECT_GT(std::strlen(text), 0U) << code;
    }
    EXPECT_STRNE(pcclGetErrorString(pcclSuccess), pcclGetErrorString(pcclInvalidUsage));
}

TEST(Library, LastErrorIsSetByAFailure) {
    EXPECT_EQ(pcclGetBuildInfo(nullptr), pcclInvalidArgument);
    ASSERT_NE(pcclGetLastError(), nullptr);
    EXPECT_STRNE(pcclGetLastError(), "");
}

TEST(NullArguments, AreInvalidArgument) {
    pcclBuildInfo_t info{};
    EXPECT_EQ(pcclGetBuildInfo(&info), pcclSuccess);
    EXPECT_EQ(pcclGetVersion(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclCommConfigInit(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclMasterConfigInit(nullptr), pcclInvalidArgument);
    pcclComm_t *comm = nullptr;
    const auto params = valid_params();
    EXPECT_EQ(pcclCreateCommunicator(nullptr, &comm), pcclInvalidArgument);
    EXPECT_EQ(pcclCreateCommunicator(&params, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclCreateCommunicatorWithConfig(nullptr, &comm), pcclInvalidArgument);
    int value = 0;
    EXPECT_EQ(pcclGetAttribute(nullptr, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &value), pcclInvalidArgument);
    EXPECT_EQ(pcclDestroyCommunicator(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclConnect(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclUpdateTopology(nullptr), pcclInvalidArgument);
    bool pending = false;
    EXPECT_EQ(pcclArePeersPending(nullptr, &pending), pcclInvalidArgument);
    EXPECT_EQ(pcclOptimizeTopology(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAbort(nullptr), pcclInvalidArgument);
    const auto d = valid_descriptor();
    float data[4] = {};
    EXPECT_EQ(pcclAllReduce(data, data, &d, nullptr, nullptr), pcclInvalidArgument);
    pcclAsyncReduceOp_t handle{};
    EXPECT_EQ(pcclAllReduceAsync(data, data, &d, nullptr, &handle), pcclInvalidArgument);
    EXPECT_EQ(pcclAwaitAsyncReduce(nullptr, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAwaitAsyncReduce(&handle, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclReduceOptionsInit(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclDropErrorFeedback(nullptr, 0), pcclInvalidArgument);
    EXPECT_EQ(pcclReduceReportInit(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAllReduceWithOptions(data, data, &d, nullptr, nullptr, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAllReduceAsyncWithOptions(data, data, &d, nullptr, nullptr, &handle), pcclInvalidArgument);
    EXPECT_EQ(pcclAwaitAsyncReduceWithReport(nullptr, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAwaitAsyncReduceWithReport(&handle, nullptr), pcclInvalidArgument);
    pcclReduceOpDescriptor_t op{data, data, d};
    EXPECT_EQ(pcclAllReduceMultipleWithRetry(&op, 1, nullptr, nullptr, 1), pcclInvalidArgument);
    pcclSharedState_t state{};
    EXPECT_EQ(pcclSynchronizeSharedState(nullptr, &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, nullptr),
              pcclInvalidArgument);
}

TEST(NullArguments, MasterFunctionsRejectNull) {
    ccoip_socket_address_t address{};
    EXPECT_EQ(pcclCreateMaster(address, nullptr), pcclInvalidArgument);
    pcclMasterInstance_t *master = nullptr;
    EXPECT_EQ(pcclCreateMasterWithConfig(nullptr, &master), pcclInvalidArgument);
    EXPECT_EQ(pcclRunMaster(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclInterruptMaster(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclMasterAwaitTermination(nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclDestroyMaster(nullptr), pcclInvalidArgument);
    std::uint16_t port = 0;
    EXPECT_EQ(pcclMasterGetPort(nullptr, &port), pcclInvalidArgument);
}

TEST(Config, BadValuesAreInvalidArgument) {
    pcclComm_t *comm = nullptr;
    pcclCommConfig_t zeroed{};
    zeroed.master_address = "127.0.0.1:48148";
    EXPECT_EQ(pcclCreateCommunicatorWithConfig(&zeroed, &comm), pcclInvalidArgument);
    for (const char *address : {"", ":", "[::1", "127.0.0.1:99999", "127.0.0.1:port", "127.0.0.1:-1"}) {
        pcclCommConfig_t config{};
        ASSERT_EQ(pcclCommConfigInit(&config), pcclSuccess);
        config.master_address = address;
        EXPECT_EQ(pcclCreateCommunicatorWithConfig(&config, &comm), pcclInvalidArgument) << address;
    }
    pcclCommConfig_t config{};
    ASSERT_EQ(pcclCommConfigInit(&config), pcclSuccess);
    EXPECT_EQ(pcclCreateCommunicatorWithConfig(&config, &comm), pcclInvalidArgument) << "no master address";
    config.master_address = "127.0.0.1:48148";
    config.listen_port_first = 5000;
    config.listen_port_last = 4000;
    EXPECT_EQ(pcclCreateCommunicatorWithConfig(&config, &comm), pcclInvalidArgument) << "the port range is reversed";
    pcclMasterInstance_t *master = nullptr;
    pcclMasterConfig_t bare{};
    EXPECT_EQ(pcclCreateMasterWithConfig(&bare, &master), pcclInvalidArgument);
    auto portless = valid_params(0);
    EXPECT_EQ(pcclCreateCommunicator(&portless, &comm), pcclInvalidArgument);
}

/// A communicator that has not been connected.
class Unconnected : public ::testing::Test {
protected:
    tools::Comm comm;
    void SetUp() override {
        const auto params = valid_params();
        pcclComm_t *handle = nullptr;
        ASSERT_EQ(pcclCreateCommunicator(&params, &handle), pcclSuccess);
        comm.reset(handle);
    }
};

TEST_F(Unconnected, CallsThatNeedAConnectionAreInvalidUsage) {
    int value = 0;
    EXPECT_EQ(pcclGetAttribute(comm.get(), PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &value), pcclInvalidUsage);
    EXPECT_EQ(pcclUpdateTopology(comm.get()), pcclInvalidUsage);
    bool pending = false;
    EXPECT_EQ(pcclArePeersPending(comm.get(), &pending), pcclInvalidUsage);
    EXPECT_EQ(pcclOptimizeTopology(comm.get()), pcclInvalidUsage);
    float data[4] = {};
    const auto d = valid_descriptor();
    EXPECT_EQ(pcclAllReduce(data, data, &d, comm.get(), nullptr), pcclInvalidUsage);
    pcclAsyncReduceOp_t handle{};
    EXPECT_EQ(pcclAllReduceAsync(data, data, &d, comm.get(), &handle), pcclInvalidUsage);
    EXPECT_EQ(pcclAllReduceWithOptions(data, data, &d, nullptr, comm.get(), nullptr), pcclInvalidUsage);
    EXPECT_EQ(pcclAllReduceAsyncWithOptions(data, data, &d, nullptr, comm.get(), &handle), pcclInvalidUsage);
    pcclReduceOpDescriptor_t op{data, data, d};
    EXPECT_EQ(pcclAllReduceMultipleWithRetry(&op, 1, comm.get(), nullptr, 1), pcclInvalidUsage);
    pcclTensorInfo_t info{"a", data, 4, pcclFloat, pcclDeviceCpu, false};
    pcclSharedState_t state{0, 1, &info};
    EXPECT_EQ(pcclSynchronizeSharedState(comm.get(), &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, nullptr),
              pcclInvalidUsage);
    const pcclAsyncReduceOp_t never{comm.get(), 99};
    EXPECT_EQ(pcclAwaitAsyncReduce(&never, nullptr), pcclInvalidUsage);
    EXPECT_EQ(pcclAwaitAsyncReduceWithReport(&never, nullptr), pcclInvalidUsage);
}

TEST_F(Unconnected, ConnectWithoutAMasterFailsAndCanBeRepeated) {
    EXPECT_EQ(pcclConnect(comm.get()), pcclMasterConnectionFailed);
    EXPECT_STRNE(pcclGetLastError(), "");
    EXPECT_EQ(pcclConnect(comm.get()), pcclMasterConnectionFailed);
}

/// A communicator connected to a master in this process, alone.
class Connected : public ::testing::Test {
protected:
    World world;
    tools::Comm comm;
    float data[4] = {1, 2, 3, 4};
    float out[4] = {};
    pcclReduceDescriptor_t d = valid_descriptor();

    void SetUp() override {
        const auto params = valid_params(world.master_port());
        pcclComm_t *handle = nullptr;
        ASSERT_EQ(pcclCreateCommunicator(&params, &handle), pcclSuccess);
        comm.reset(handle);
        ASSERT_EQ(pcclConnect(handle), pcclSuccess) << pcclGetLastError();
    }
    pcclResult_t reduce() { return pcclAllReduce(data, out, &d, comm.get(), nullptr); }
};

TEST_F(Connected, BadReduceArgumentsAreInvalidArgument) {
    EXPECT_EQ(pcclAllReduce(nullptr, out, &d, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAllReduce(data, nullptr, &d, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAllReduce(data, out, nullptr, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAllReduceAsync(data, out, &d, comm.get(), nullptr), pcclInvalidArgument);
    d.count = 0;
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    d = valid_descriptor();
    d.op = static_cast<pcclRedOp_t>(5);
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    d = valid_descriptor();
    d.src_descriptor.datatype = static_cast<pcclDataType_t>(12);
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    d = valid_descriptor();
    d.src_descriptor.distribution_hint = static_cast<pcclDistributionHint_t>(3);
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    d = valid_descriptor();
    d.quantization_options.algorithm = static_cast<pcclQuantizationAlgorithm_t>(4);
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    d = valid_descriptor();
    d.count = SIZE_MAX / 2;
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    EXPECT_EQ(out[0], 0);
}

TEST_F(Connected, QuantizationRejectsUnsuitableTypes) {
    d.quantization_options = {pcclFloat16, pcclQuantMinMax};
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    d.quantization_options = {pcclUint32, pcclQuantZeroPointScale};
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    d.quantization_options = {pcclUint8, pcclQuantMinMax};
    d.src_descriptor.datatype = pcclInt32;
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    d = valid_descriptor();
    for (const auto &[type, algorithm] : {std::pair{pcclUint8, pcclQuantBlockScale},
                                          {pcclInt16, pcclQuantBlockScale},
                                          {pcclInt4, pcclQuantMinMax},
                                          {pcclInt4, pcclQuantZeroPointScale},
                                          {static_cast<pcclDataType_t>(15), pcclQuantBlockScale}}) {
        d.quantization_options = {type, algorithm};
        EXPECT_EQ(reduce(), pcclInvalidArgument) << type;
    }
    for (const auto type : {pcclInt8, pcclInt4, pcclUint4, pcclUint2}) {
        d.quantization_options = {type, pcclQuantBlockScale};
        EXPECT_EQ(reduce(), pcclTooFewPeers) << type;
    }
    for (const auto algorithm : {pcclQuantMinMax, pcclQuantZeroPointScale}) {
        for (const auto type : {pcclUint4, pcclUint2}) {
            d.quantization_options = {type, algorithm};
            EXPECT_EQ(reduce(), pcclTooFewPeers) << type;
        }
    }
    for (const auto type : {pcclInt4, pcclUint4, pcclUint2, static_cast<pcclDataType_t>(15)}) {
        d.src_descriptor.datatype = type;
        EXPECT_EQ(reduce(), pcclInvalidArgument) << type;
    }
    d.src_descriptor.datatype = pcclFloat;
    d.quantization_options = {pcclInt4, pcclQuantMinMax};
    EXPECT_EQ(reduce(), pcclInvalidArgument);
    EXPECT_THAT(pcclGetLastError(),
                testing::HasSubstr(
                    "min-max does not pack to int4; set quantized_datatype to uint8, int8, int16, uint16, uint4 or uint2"));
    d.quantization_options = {pcclDouble, pcclQuantNone};  // ignored
    EXPECT_EQ(reduce(), pcclTooFewPeers);
}

TEST_F(Connected, BadOptionsAndReportsAreInvalidArgument) {
    pcclReduceOptions_t options{};
    const auto reduce_with = [&] { return pcclAllReduceWithOptions(data, out, &d, &options, comm.get(), nullptr); };
    EXPECT_EQ(reduce_with(), pcclInvalidArgument) << "struct_size is not set";
    ASSERT_EQ(pcclReduceOptionsInit(&options), pcclSuccess);
    EXPECT_EQ(reduce_with(), pcclTooFewPeers);
    options.algorithm = static_cast<pcclReduceAlgorithm_t>(4);
    EXPECT_EQ(reduce_with(), pcclInvalidArgument);
    EXPECT_THAT(pcclGetLastError(), ::testing::HasSubstr("algorithm"));
    options.algorithm = static_cast<pcclReduceAlgorithm_t>(-1);
    EXPECT_EQ(reduce_with(), pcclInvalidArgument);
    options.algorithm = pcclAlgorithmAuto;
    options.quantization_block = 32;
    EXPECT_EQ(reduce_with(), pcclInvalidArgument) << "nothing is quantized in blocks";
    d.quantization_options = {pcclInt8, pcclQuantMinMax};
    EXPECT_EQ(reduce_with(), pcclInvalidArgument);
    d.quantization_options = {pcclInt8, pcclQuantBlockScale};
    for (const std::uint32_t block : {0U, 32U, 64U, 128U, 256U, 512U}) {
        options.quantization_block = block;
        EXPECT_EQ(reduce_with(), pcclTooFewPeers) << block;
    }
    for (const std::uint32_t block : {1U, 16U, 48U, 1024U, 65568U}) {
        options.quantization_block = block;
        EXPECT_EQ(reduce_with(), pcclInvalidArgument) << block;
        EXPECT_THAT(pcclGetLastError(), ::testing::HasSubstr(std::to_string(block)));
    }
    options.quantization_block = 0;
    options.error_feedback = true;
    EXPECT_EQ(reduce_with(), pcclTooFewPeers);
    d.op = pcclMax;
    EXPECT_EQ(reduce_with(), pcclInvalidArgument);
    d = valid_descriptor();
    EXPECT_EQ(reduce_with(), pcclInvalidArgument) << "nothing is quantized";
    options.error_feedback = false;
    options.on_peer_loss = pcclLossPolicyRepair;
    d.op = pcclSum;
    EXPECT_EQ(reduce_with(), pcclInvalidArgument);
    EXPECT_THAT(pcclGetLastError(), ::testing::HasSubstr("averages"));
    d.op = pcclAvg;
    EXPECT_EQ(reduce_with(), pcclTooFewPeers);
    options.on_peer_loss = static_cast<pcclLossPolicy_t>(2);
    EXPECT_EQ(reduce_with(), pcclInvalidArgument);
    options.on_peer_loss = pcclLossPolicyRetry;
    EXPECT_EQ(pcclDropErrorFeedback(comm.get(), 0), pcclSuccess);
    EXPECT_EQ(pcclDropErrorFeedback(comm.get(), 77), pcclSuccess);
    options.quantization_scale = static_cast<pcclQuantizationScale_t>(2);
    EXPECT_EQ(reduce_with(), pcclInvalidArgument);
    pcclReduceReport_t report{};
    EXPECT_EQ(pcclAllReduceWithOptions(data, out, &d, nullptr, comm.get(), &report), pcclInvalidArgument);
    ASSERT_EQ(pcclReduceReportInit(&report), pcclSuccess);
    EXPECT_EQ(pcclAllReduceWithOptions(data, out, &d, nullptr, comm.get(), &report), pcclTooFewPeers);
    EXPECT_EQ(report.algorithm, pcclAlgorithmAuto);
}

TEST_F(Connected, BadShardArgumentsAreInvalidArgument) {
    pcclShard_t shard{};
    EXPECT_EQ(pcclGetShard(nullptr, 4, &shard), pcclInvalidArgument);
    EXPECT_EQ(pcclGetShard(comm.get(), 0, &shard), pcclInvalidArgument);
    EXPECT_EQ(pcclGetShard(comm.get(), 4, nullptr), pcclInvalidArgument);
    const auto scatter = [&](const pcclReduceOptions_t *options = nullptr) {
        return pcclReduceScatter(data, out, &d, &shard, options, comm.get(), nullptr);
    };
    const auto gather = [&](const pcclReduceOptions_t *options = nullptr) {
        return pcclAllGather(data, out, &d, &shard, options, comm.get(), nullptr);
    };
    EXPECT_EQ(scatter(), pcclInvalidArgument);
    EXPECT_THAT(pcclGetLastError(), ::testing::HasSubstr("pcclGetShard"));
    ASSERT_EQ(pcclGetShard(comm.get(), 4, &shard), pcclSuccess);
    EXPECT_EQ(scatter(), pcclTooFewPeers);
    EXPECT_EQ(gather(), pcclTooFewPeers);
    d.count = 3;
    EXPECT_EQ(scatter(), pcclInvalidArgument) << "a shard of another count";
    EXPECT_EQ(gather(), pcclInvalidArgument);
    d.count = 4;
    shard.first = 1;
    EXPECT_EQ(scatter(), pcclInvalidArgument);
    ASSERT_EQ(pcclGetShard(comm.get(), 4, &shard), pcclSuccess);
    shard.rank = 1;
    EXPECT_EQ(gather(), pcclInvalidArgument);
    ASSERT_EQ(pcclGetShard(comm.get(), 4, &shard), pcclSuccess);
    pcclReduceOptions_t options{};
    ASSERT_EQ(pcclReduceOptionsInit(&options), pcclSuccess);
    options.on_peer_loss = pcclLossPolicyRepair;
    d.op = pcclAvg;
    EXPECT_EQ(scatter(&options), pcclInvalidArgument);
    EXPECT_EQ(gather(&options), pcclInvalidArgument);
    EXPECT_THAT(pcclGetLastError(), ::testing::HasSubstr("pcclLossPolicyRepair"));
    options.on_peer_loss = pcclLossPolicyRetry;
    options.error_feedback = true;
    d.quantization_options = {pcclInt8, pcclQuantMinMax};
    EXPECT_EQ(scatter(&options), pcclTooFewPeers);
    EXPECT_EQ(gather(&options), pcclInvalidArgument);
    EXPECT_EQ(pcclReduceScatter(nullptr, out, &d, &shard, nullptr, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclReduceScatter(data, nullptr, &d, &shard, nullptr, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclReduceScatter(data, out, nullptr, &shard, nullptr, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclReduceScatter(data, out, &d, nullptr, nullptr, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAllGather(nullptr, out, &d, &shard, nullptr, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAllGather(data, out, &d, &shard, nullptr, nullptr, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclReduceScatterAsync(data, out, &d, &shard, nullptr, comm.get(), nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclAllGatherAsync(data, out, &d, &shard, nullptr, comm.get(), nullptr), pcclInvalidArgument);
}

TEST_F(Connected, StructuresOfOtherVersionsAreUnderstood) {
    pcclReduceReport_t report{};
    report.struct_size = offsetof(pcclReduceReport_t, chunk_bytes);
    report.chunk_bytes = 77;
    EXPECT_EQ(pcclAllReduceWithOptions(data, out, &d, nullptr, comm.get(), &report), pcclTooFewPeers);
    EXPECT_EQ(report.chunk_bytes, 77U) << "the library wrote beyond the caller's structure";
    struct {
        pcclReduceOptions_t known;
        unsigned char unknown[64];
    } larger{};
    ASSERT_EQ(pcclReduceOptionsInit(&larger.known), pcclSuccess);
    larger.known.struct_size = sizeof larger;
    EXPECT_EQ(pcclAllReduceWithOptions(data, out, &d, &larger.known, comm.get(), nullptr), pcclTooFewPeers);
    larger.unknown[63] = 1;
    EXPECT_EQ(pcclAllReduceWithOptions(data, out, &d, &larger.known, comm.get(), nullptr), pcclInvalidArgument);
}

TEST_F(Connected, BadMultipleArgumentsAreInvalidArgument) {
    pcclReduceOpDescriptor_t ops[2] = {{data, out, d}, {data, out, d}};
    EXPECT_EQ(pcclAllReduceMultipleWithRetry(nullptr, 1, comm.get(), nullptr, 1), pcclInvalidArgument);
    EXPECT_EQ(pcclAllReduceMultipleWithRetry(ops, 0, comm.get(), nullptr, 1), pcclInvalidArgument);
    EXPECT_EQ(pcclAllReduceMultipleWithRetry(ops, 1, comm.get(), nullptr, 0), pcclInvalidArgument);
    EXPECT_EQ(pcclAllReduceMultipleWithRetry(ops, 1, comm.get(), nullptr, -1), pcclInvalidArgument);
    ops[0].recvbuf = nullptr;
    EXPECT_EQ(pcclAllReduceMultipleWithRetry(ops, 1, comm.get(), nullptr, 1), pcclInvalidArgument);
}

TEST_F(Connected, BadAttributesAreInvalidArgument) {
    int value = 0;
    EXPECT_EQ(pcclGetAttribute(comm.get(), static_cast<pcclAttribute_t>(0), &value), pcclInvalidArgument);
    EXPECT_EQ(pcclGetAttribute(comm.get(), static_cast<pcclAttribute_t>(5), &value), pcclInvalidArgument);
    EXPECT_EQ(pcclGetAttribute(comm.get(), PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, nullptr), pcclInvalidArgument);
    EXPECT_EQ(pcclGetAttribute(comm.get(), PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &value), pcclSuccess);
    EXPECT_EQ(value, 1);
    EXPECT_EQ(pcclArePeersPending(comm.get(), nullptr), pcclInvalidArgument);
}

TEST_F(Connected, BadSharedStatesAreInvalidArgument) {
    pcclTensorInfo_t infos[2] = {{"a", data, 4, pcclFloat, pcclDeviceCpu, false}, {"b", out, 4, pcclFloat, pcclDeviceCpu, false}};
    const auto sync = [&](pcclSharedState_t state, pcclSharedStateSyncStrategy_t strategy = kPopular) {
        return pcclSynchronizeSharedState(comm.get(), &state, strategy, nullptr);
    };
    EXPECT_EQ(pcclSynchronizeSharedState(comm.get(), nullptr, kPopular, nullptr), pcclInvalidArgument);
    EXPECT_EQ(sync({0, 2, nullptr}), pcclInvalidArgument);
    EXPECT_EQ(sync({0, 0, infos}), pcclInvalidArgument);
    EXPECT_EQ(sync({0, 2, infos}, static_cast<pcclSharedStateSyncStrategy_t>(3)), pcclInvalidArgument);
    infos[1].name = nullptr;
    EXPECT_EQ(sync({0, 2, infos}), pcclInvalidArgument);
    infos[1].name = "a";
    EXPECT_EQ(sync({0, 2, infos}), pcclInvalidArgument) << "the same name twice";
    infos[1].name = "b";
    infos[1].data = nullptr;
    EXPECT_EQ(sync({0, 2, infos}), pcclInvalidArgument);
    infos[1].data = out;
    infos[1].datatype = static_cast<pcclDataType_t>(12);
    EXPECT_EQ(sync({0, 2, infos}), pcclInvalidArgument);
    infos[1].datatype = pcclFloat;
    infos[1].device_type = static_cast<pcclDeviceType_t>(2);
    EXPECT_EQ(sync({0, 2, infos}), pcclInvalidArgument);
    const std::string too_long(1025, 'x');
    infos[1].device_type = pcclDeviceCpu;
    infos[1].name = too_long.c_str();
    EXPECT_EQ(sync({0, 2, infos}), pcclInvalidArgument);
}

TEST_F(Connected, ConnectingTwiceIsInvalidUsage) { EXPECT_EQ(pcclConnect(comm.get()), pcclInvalidUsage); }

TEST_F(Connected, OptimizingAloneIsInvalidUsage) {
    EXPECT_EQ(pcclOptimizeTopology(comm.get()), pcclInvalidUsage);
    EXPECT_NE(std::string(pcclGetLastError()).find("alone"), std::string::npos) << pcclGetLastError();
}

TEST_F(Connected, LaunchOfALonePeerIsTooFewPeers) {
    pcclShard_t shard{};
    ASSERT_EQ(pcclGetShard(comm.get(), d.count, &shard), pcclSuccess);
    const pcclAsyncReduceOp_t unset{nullptr, 77};
    pcclAsyncReduceOp_t handle = unset;
    EXPECT_EQ(pcclAllReduceAsync(data, out, &d, comm.get(), &handle), pcclTooFewPeers);
    EXPECT_NE(std::string(pcclGetLastError()).find("alone"), std::string::npos) << pcclGetLastError();
    EXPECT_EQ(pcclAllReduceAsyncWithOptions(data, out, &d, nullptr, comm.get(), &handle), pcclTooFewPeers);
    EXPECT_EQ(pcclReduceScatterAsync(data, out, &d, &shard, nullptr, comm.get(), &handle), pcclTooFewPeers);
    EXPECT_EQ(pcclAllGatherAsync(data, out, &d, &shard, nullptr, comm.get(), &handle), pcclTooFewPeers);
    EXPECT_EQ(handle.comm, unset.comm);
    EXPECT_EQ(handle.tag, unset.tag);
    EXPECT_EQ(out[0], 0);
    EXPECT_EQ(pcclUpdateTopology(comm.get()), pcclSuccess) << pcclGetLastError();
    const pcclAsyncReduceOp_t never{comm.get(), d.tag};
    EXPECT_EQ(pcclAwaitAsyncReduce(&never, nullptr), pcclInvalidUsage);
}

TEST_F(Connected, CallsWithoutAMasterAreMasterConnectionFailed) {
    ASSERT_EQ(pcclInterruptMaster(world.master().handle.get()), pcclSuccess);
    ASSERT_EQ(pcclMasterAwaitTermination(world.master().handle.get()), pcclSuccess);
    EXPECT_EQ(pcclUpdateTopology(comm.get()), pcclMasterConnectionFailed);
    EXPECT_STRNE(pcclGetLastError(), "");
}

TEST(CongestionControl, UnavailableAlgorithmFailsTheConnection) {
    World world;
    pcclCommConfig_t config{};
    ASSERT_EQ(pcclCommConfigInit(&config), pcclSuccess);
    const std::string master = "127.0.0.1:" + std::to_string(world.master_port());
    config.master_address = master.c_str();
    for (const char *name : {"no-such-control", "reno"}) {
        config.congestion_control = name;
        pcclComm_t *comm = nullptr;
        ASSERT_EQ(pcclCreateCommunicatorWithConfig(&config, &comm), pcclSuccess) << pcclGetLastError();
        const bool offered = std::string(name) == "reno";
        EXPECT_EQ(pcclConnect(comm), offered ? pcclSuccess : pcclInvalidArgument);
        if (!offered) {
            EXPECT_NE(std::string(pcclGetLastError()).find(name), std::string::npos) << pcclGetLastError();
        }
        EXPECT_EQ(pcclDestroyCommunicator(comm), pcclSuccess);
    }
}

TEST(Master, LifeCycleMisuseIsInvalidUsage) {
    pcclMasterConfig_t config{};
    ASSERT_EQ(pcclMasterConfigInit(&config), pcclSuccess);
    config.listen_address = "127.0.0.1:0";
    pcclMasterInstance_t *master = nullptr;
    ASSERT_EQ(pcclCreateMasterWithConfig(&config, &master), pcclSuccess);
    EXPECT_EQ(pcclInterruptMaster(master), pcclInvalidUsage);
    EXPECT_EQ(pcclMasterAwaitTermination(master), pcclInvalidUsage);
    ASSERT_EQ(pcclRunMaster(master), pcclSuccess);
    EXPECT_EQ(pcclRunMaster(master), pcclInvalidUsage);
    std::uint16_t port = 0;
    EXPECT_EQ(pcclMasterGetPort(master, &port), pcclSuccess);
    EXPECT_NE(port, 0);
    EXPECT_EQ(pcclMasterGetPort(master, nullptr), pcclInvalidArgument);
    const std::string taken = "127.0.0.1:" + std::to_string(port);
    pcclMasterInstance_t *second = nullptr;
    config.listen_address = taken.c_str();
    EXPECT_EQ(pcclCreateMasterWithConfig(&config, &second), pcclMasterConnectionFailed);
    EXPECT_STRNE(pcclGetLastError(), "");
    EXPECT_EQ(pcclInterruptMaster(master), pcclSuccess);
    EXPECT_EQ(pcclMasterAwaitTermination(master), pcclSuccess);
    EXPECT_EQ(pcclDestroyMaster(master), pcclSuccess);
}

TEST(Master, DestroyEndsEveryMaster) {
    for (const bool run : {false, true}) {
        ccoip_socket_address_t address{};
        address.inet.ipv4 = {{127, 0, 0, 1}};
        pcclMasterInstance_t *master = nullptr;
        ASSERT_EQ(pcclCreateMaster(address, &master), pcclSuccess) << pcclGetLastError();
        if (run) {
            ASSERT_EQ(pcclRunMaster(master), pcclSuccess);
        }
        EXPECT_EQ(pcclDestroyMaster(master), pcclSuccess);
    }
}

}  // namespace
}  // namespace pccl::itest

int main(int argc, char **argv) {
    pccl::itest::before_init = pccl::itest::calls_before_init();
    pccl::itest::master_before_init = pccl::itest::master_calls_before_init();
    ::testing::InitGoogleTest(&argc, argv);
    if (pcclInit() != pcclSuccess) return 1;
    return RUN_ALL_TESTS();
}
