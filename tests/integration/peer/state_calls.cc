// Calls about shared state.
#include "common/elements.h"
#include "common/mix.h"
#include "peer/inputs.h"
#include "peer/session.h"

#include <fcntl.h>
#include <unistd.h>

namespace pccl::itest {

namespace {

constexpr std::size_t kChunk = 1 << 20;

unsigned char seeded(std::uint64_t seed, std::size_t i) {
    return static_cast<unsigned char>(tools::mix(seed * 0x100000001 + i / 8) >> (i % 8 * 8));
}

/// Fills a tensor from a seed.
void fill_seeded(Bytes &data, std::uint64_t seed) {
    for (std::size_t i = 0; i < data.size(); ++i)
        data[i] = seeded(seed, i);
}

/// This process's memory as a file, to read and modify tensors while the library uses them.
class OwnMemory {
public:
    OwnMemory() : file_(::open("/proc/self/mem", O_RDWR | O_CLOEXEC)) {}
    ~OwnMemory() { ::close(file_); }
    OwnMemory(const OwnMemory &) = delete;
    OwnMemory &operator=(const OwnMemory &) = delete;

    unsigned char read(const unsigned char *from) const {
        unsigned char byte = 0;
        if (::pread(file_, &byte, 1, offset(from)) != 1) throw std::runtime_error("cannot read /proc/self/mem");
        return byte;
    }
    void write(const unsigned char *to, unsigned char byte) const {
        if (::pwrite(file_, &byte, 1, offset(to)) != 1) throw std::runtime_error("cannot write /proc/self/mem");
    }

private:
    int file_;
    static off_t offset(const unsigned char *at) { return static_cast<off_t>(reinterpret_cast<std::uintptr_t>(at)); }
};

/// "tensors": [{"name", "type", "count", "seed", "unequal", "pattern"}], "revision"; stored under the name "state". Without a
/// pattern the bytes are noise.
Json call_define(Session &session, const Json &request) {
    State state;
    state.revision = request.value("revision", std::uint64_t{0});
    for (const Json &entry : request.at("tensors")) {
        Tensor tensor{entry.at("name"),
                      tools::type_named(entry.value("type", "float")).value(),
                      {},
                      entry.at("count").get<std::size_t>(),
                      entry.value("unequal", false),
                      entry.value("seed", std::uint64_t{0})};
        tensor.data.resize(tensor.count * tools::size_of(tensor.type));
        if (entry.contains("pattern")) {
            fill_input(entry.at("pattern"), {tensor.type, pcclSum, {}, tensor.count, 1, 0}, static_cast<int>(tensor.seed),
                       tensor.data.data());
        } else {
            fill_seeded(tensor.data, tensor.seed);
        }
        state.tensors.push_back(std::move(tensor));
    }
    const std::scoped_lock lock(session.mutex);
    session.states[request.value("state", "")] = std::move(state);
    return answer_of(pcclSuccess);
}

/// Flips the byte "at" of the tensor with index "tensor".
Json call_poke(Session &session, const Json &request) {
    const std::scoped_lock lock(session.mutex);
    session.states.at(request.value("state", "")).tensors.at(request.value("tensor", 0)).data.at(request.at("at")) ^= 0xff;
    return answer_of(pcclSuccess);
}

/// The number of chunks of the first tensor whose last bytes differ from those of "define". Can be called during a
/// synchronization.
Json call_overwritten(Session &session, const Json &request) {
    const std::scoped_lock lock(session.mutex);
    const Tensor &tensor = session.states.at(request.value("state", "")).tensors.at(0);
    const OwnMemory memory;
    std::size_t chunks = 0;
    for (std::size_t end = kChunk; end <= tensor.data.size(); end += kChunk) {
        bool same = true;
        for (std::size_t i = end - 8; i < end && same; ++i)
            same = memory.read(tensor.data.data() + i) == seeded(tensor.seed, i);
        chunks += !same;
    }
    Json answer = answer_of(pcclSuccess);
    answer["chunks"] = chunks;
    return answer;
}

/// Flips a byte of every chunk of the first tensor. Can be called during a synchronization.
Json call_spoil(Session &session, const Json &request) {
    const std::scoped_lock lock(session.mutex);
    Tensor &tensor = session.states.at(request.value("state", "")).tensors.at(0);
    const OwnMemory memory;
    for (std::size_t i = 4321; i < tensor.data.size(); i += kChunk) {
        unsigned char *at = tensor.data.data() + i;
        memory.write(at, memory.read(at) ^ 0xff);
    }
    return answer_of(pcclSuccess);
}

pcclSharedStateSyncStrategy_t strategy_of(const Json &request) {
    const std::string name = request.value("strategy", "popular");
    if (name == "receive") return PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY;
    if (name == "send") return PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY;
    return PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;
}

/// Synchronizes. "revision" sets the offered revision. Answers with the bytes moved, the revision, and a hash per tensor.
Json call_sync(Session &session, const Json &request) {
    State *state = nullptr;
    {
        const std::scoped_lock lock(session.mutex);
        state = &session.states.at(request.value("state", ""));
    }
    std::vector<pcclTensorInfo_t> infos;
    for (Tensor &tensor : state->tensors) {
        infos.push_back({tensor.name.c_str(), tensor.count == 0 ? nullptr : tensor.data.data(), tensor.count, tensor.type,
                         pcclDeviceCpu, tensor.allow_content_inequality});
    }
    pcclSharedState_t shared{request.value("revision", state->revision), infos.size(), infos.data()};
    pcclSharedStateSyncInfo_t info{};
    const auto result = pcclSynchronizeSharedState(session.comm(request), &shared, strategy_of(request), &info);
    if (result == pcclSuccess) state->revision = shared.revision;
    Json answer = answer_of(result);
    answer["revision"] = shared.revision;
    answer["tx"] = info.tx_bytes;
    answer["rx"] = info.rx_bytes;
    answer["hashes"] = Json::array();
    for (const Tensor &tensor : state->tensors)
        answer["hashes"].push_back(hash_bytes(tensor.data.data(), tensor.data.size()));
    return answer;
}

}  // namespace

void add_state_calls(CallTable &table) {
    table["define"] = call_define;
    table["poke"] = call_poke;
    table["overwritten"] = call_overwritten;
    table["spoil"] = call_spoil;
    table["sync"] = call_sync;
}

}  // namespace pccl::itest
