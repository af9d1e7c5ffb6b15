// See base/resolve.h.
#include "base/resolve.h"

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "base/lookup.h"

namespace pccl {
namespace {

constexpr std::chrono::milliseconds kAskInterval{20};

struct Answer {
    std::mutex mutex;
    std::condition_variable came;
    std::optional<Result<Lookup::Addresses>> result;
};

/// Returns nullopt if there is no answer in time.
std::optional<Result<Lookup::Addresses>> await(const std::string &host, Duration limit, const std::function<bool()> &stop) {
    const Time end = monotonic_now() + limit;
    const auto answer = std::make_shared<Answer>();
    const Lookup lookup(host, [answer](const Result<Lookup::Addresses> &result) {
        const std::lock_guard lock(answer->mutex);
        answer->result = result;
        answer->came.notify_all();
    });
    std::unique_lock lock(answer->mutex);
    while (!answer->result && monotonic_now() < end) {
        if (answer->came.wait_for(lock, kAskInterval, [&] { return answer->result.has_value(); })) break;
        if (stop && stop()) break;
    }
    auto result = std::move(answer->result);
    lock.unlock();  // the destructor of the look-up waits for the callback that signals us
    return result;
}

}  // namespace

Result<IpAddress> resolve(const std::string &host, Duration limit, const std::function<bool()> &stop) {
    if (auto literal = parse_ip(host)) return *literal;
    const auto result = await(host, limit, stop);
    if (!result)
        return Error{pcclInvalidArgument, "no address for the host name \"" + host +
                                              "\": no answer from the name server within " + to_string(limit) +
                                              ". Give an IP address, or check the name server"};
    if (!*result) return result->error();
    const Lookup::Addresses &found = **result;
    const auto v4 = std::ranges::find_if(found, [](const IpAddress &ip) { return !ip.v6; });
    return v4 != found.end() ? *v4 : found.front();
}

}  // namespace pccl
