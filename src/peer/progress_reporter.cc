// See progress_reporter.h.
#include "peer/progress_reporter.h"

#include <algorithm>

namespace pccl::peer {

wire::ProgressReport ProgressReporter::report(Time now, const std::vector<OpId> &ops) {
    wire::ProgressReport progress;
    std::map<OpId, Seen> seen;
    for (const OpId &id : ops) {
        const Operation *op = engine_.find(id);
        if (!op) continue;
        wire::OpProgress state;
        state.op = id;
        state.sent = op->request().tx_bytes;
        state.received = op->request().rx_bytes;
        const std::uint64_t bytes = state.sent + state.received;
        const auto before = seen_.find(id);
        seen[id] = before != seen_.end() && before->second.bytes == bytes ? before->second : Seen{bytes, now};
        state.idle_ms = static_cast<std::uint32_t>(std::min<Duration::rep>((now - seen[id].since).count() / 1000, UINT32_MAX));
        state.waits_for = op->waits_for();
        if (state.waits_for.size() > wire::kMaxReported) state.waits_for.resize(wire::kMaxReported);
        progress.ops.push_back(std::move(state));
    }
    seen_ = std::move(seen);
    links_.for_each([&](Link &link) {
        if (link.up() && progress.links.size() < wire::kMaxReported) progress.links.push_back(link.progress());
    });
    return progress;
}

}  // namespace pccl::peer
