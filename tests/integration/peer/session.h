// State of the test peer: communicators, operations in flight, shared states; and the table of calls that a test can make.
#pragma once

#include "common/handles.h"
#include "harness/json.h"

#include <pccl.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace pccl::itest {

using Bytes = std::vector<unsigned char>;

/// Buffers of one reduce. Kept until its answer is sent.
struct Buffers {
    Bytes send;  ///< has `offset` bytes before the first element
    Bytes receive;
    std::size_t offset = 0;
    bool in_place = false;
    std::uint64_t send_hash = 0;  ///< hash before the call
    unsigned char *send_data() { return send.data() + offset; }
    unsigned char *receive_data() { return in_place ? send_data() : receive.data() + offset; }
};

/// Buffers of one reduce-scatter or all-gather.
struct ShardBuffers {
    pcclShard_t shard{};
    Bytes whole, part;
    std::uint64_t given_hash = 0;  ///< hash of the input before the call
};

struct Flight {
    pcclAsyncReduceOp_t handle{};
    Json request;
    Buffers buffers;
    ShardBuffers shard_buffers;
};

struct Tensor {
    std::string name;
    pcclDataType_t type;
    Bytes data;
    std::size_t count;
    bool allow_content_inequality;
    std::uint64_t seed;  ///< seed of its content
};
struct State {
    std::uint64_t revision = 0;
    std::vector<Tensor> tensors;
};

class Session {
public:
    /// Emits an event line; any thread.
    std::function<void(const Json &)> emit;

    pcclComm_t *comm(const Json &request);
    std::mutex mutex;  ///< guards the maps
    std::map<int, tools::Comm> comms;
    std::map<std::string, std::unique_ptr<Flight>> flights;
    std::map<std::string, Bytes> arenas;
    std::map<std::string, State> states;
    std::atomic<bool> stop{false};  ///< asks a loop to end
};

/// Options of a request: "algorithm" (auto, ring, direct or one-hop), "fault" (retry or repair), and the options of "quant" that
/// are not in the descriptor.
pcclReduceOptions_t options_of(const Json &request);

/// The descriptor of a request: "count", "op", "tag", "type", "quant".
pcclReduceDescriptor_t descriptor_of(const Json &request);

/// Keeps a launched operation under the request's "handle" if `result` is a success. Returns the answer.
Json keep(Session &session, const Json &request, std::unique_ptr<Flight> flight, pcclResult_t result);
/// The operation kept under the request's "handle". It is not removed, so that it can be awaited again.
Flight &flight_of(Session &session, const Json &request);

/// Answers hold at least "code" and "error".
Json answer_of(pcclResult_t result);

using Handler = Json (*)(Session &, const Json &);
using CallTable = std::map<std::string, Handler>;
void add_comm_calls(CallTable &);
void add_reduce_calls(CallTable &);
void add_state_calls(CallTable &);
void add_loop_calls(CallTable &);
void add_repair_calls(CallTable &);
void add_trainer_calls(CallTable &);
void add_exchange_calls(CallTable &);
void add_shard_calls(CallTable &);
void add_modify_calls(CallTable &);

}  // namespace pccl::itest
