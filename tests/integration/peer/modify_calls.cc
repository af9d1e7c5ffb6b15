// A program that writes to the buffers of its operations while they run.
#include "peer/inputs.h"
#include "peer/session.h"

#include <algorithm>
#include <atomic>
#include <thread>

namespace pccl::itest {

namespace {

/// Writes a growing value to one element after another until it is destroyed, so that no element returns to an earlier value.
class Modifier {
public:
    Modifier(float *data, std::size_t count) {
        if (count == 0) return;
        thread_ = std::thread([this, data, count] {
            float value = 2;
            for (std::size_t at = 0; !stop_; at = (at + 61) % count) {
                std::atomic_ref<float>(data[at]).store(value, std::memory_order_relaxed);
                value += 1.0F / 64;
            }
        });
    }
    ~Modifier() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

/// Makes "times" all-reduces of "count" floats with one tag. "modify": "send", "receive" or absent: the buffer that another
/// thread writes to meanwhile. Answers with the code and the hash of the result (0 if it failed) of each, and the errors.
Json call_modified_reduces(Session &session, const Json &request) {
    const std::size_t count = request.at("count");
    const std::string modification = request.value("modify", "");
    std::vector<float> send(count, 1), receive(count);
    pcclReduceDescriptor_t d = descriptor_of(request);
    const pcclReduceOptions_t options = options_of(request);
    Json codes = Json::array(), hashes = Json::array(), errors = Json::array();
    for (int i = 0; i < request.at("times").get<int>(); ++i) {
        std::ranges::fill(send, 1.0F);
        pcclResult_t result = pcclInternalError;
        {
            float *const where = modification == "send" ? send.data() : receive.data();
            const Modifier modifier(where, modification.empty() ? 0 : count);
            result = pcclAllReduceWithOptions(send.data(), receive.data(), &d, &options, session.comm(request), nullptr);
        }
        codes.push_back(static_cast<int>(result));
        hashes.push_back(result == pcclSuccess ? hash_bytes(receive.data(), count * sizeof(float)) : 0);
        const Json answer = answer_of(result);
        if (result != pcclSuccess) errors.push_back(answer.at("error"));
    }
    Json answer = answer_of(pcclSuccess);
    answer["codes"] = codes;
    answer["hashes"] = hashes;
    answer["errors"] = errors;
    return answer;
}

}  // namespace

void add_modify_calls(CallTable &table) { table["modified_reduces"] = call_modified_reduces; }

}  // namespace pccl::itest
