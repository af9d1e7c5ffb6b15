// See prober.h.
#include "peer/prober.h"

#include <cstring>

#include "kernel/hash.h"

namespace pccl::peer {

using wire::FrameHeader;
using wire::FrameKind;

Prober::Prober(ProberHost &host, LinkTable &links) : host_(host), links_(links), data_(new std::byte[kProbeBytes]()) {
    data_checksum_ = kernel::checksum(data_.get(), kProbeBytes);
}

void Prober::start(const wire::Probe &probe) {
    Link *link = links_.up(probe.to);
    if (!link) return host_.probe_finished(probe.round, probe.to, 0);
    auto sending = std::make_unique<Sending>();
    sending->round = probe.round;
    // The congestion windows of a long path need several round trips to grow.
    sending->until =
        monotonic_now() + std::chrono::milliseconds(std::min<std::uint32_t>(probe.duration_ms, 10'000)) + 8 * link->round_trip();
    sending->data = data_;
    sending->checksum = data_checksum_;
    Sending *producer = sending.get();
    if (const auto old = sending_.find(probe.to); old != sending_.end()) link->remove_producer(old->second.get());
    sending_[probe.to] = std::move(sending);
    link->add_producer(producer);
    link->kick();
}

bool Prober::Sending::produce(Link &, OutFrame &frame) {
    if (ended) return false;
    frame.header = {};
    frame.header.epoch = round;
    if (monotonic_now() >= until) {
        ended = true;
        frame.header.kind = FrameKind::probe_end;
        return true;
    }
    frame.header.kind = FrameKind::probe_data;
    frame.header.bytes = kProbeBytes;
    frame.header.checksum = checksum;
    frame.payload = data.get();
    frame.keep = data;
    return true;
}

std::vector<FrameKind> Prober::kinds() const { return {FrameKind::probe_data, FrameKind::probe_end, FrameKind::probe_result}; }

Intake Prober::prepare_receive(Link &link, const FrameHeader &header) {
    if (header.kind != FrameKind::probe_data) {
        if (header.bytes != 0) return Intake::reject("the end or the result of a probe with a payload");
        return {Intake::Action::take, nullptr, nullptr, nullptr, ""};
    }
    Receiving &state = receiving_[link.other()];
    const Time now = monotonic_now();
    if (!state.active || state.round != header.round())
        state = {header.round(), now, now, 0, true};
    else
        state.bytes += header.bytes;
    state.last = now;
    return {};  // the payload is drained
}

bool Prober::receive(Link &link, const FrameHeader &header, std::byte *, const Buffer &) {
    if (header.kind == FrameKind::probe_end) {
        Receiving &state = receiving_[link.other()];
        FrameHeader answer;
        answer.kind = FrameKind::probe_result;
        answer.epoch = header.round();
        if (state.active && state.round == header.round()) {
            answer.offset = state.bytes;
            answer.aux = static_cast<std::uint32_t>(std::max<std::int64_t>(1, (state.last - state.first).count()));
        }
        state.active = false;
        link.send_urgent(small_frame(answer, {}));
        return true;
    }
    const auto found = sending_.find(link.other());
    if (found == sending_.end() || found->second->round != header.round()) return true;
    finish(link.other(), header.elapsed_us() == 0 ? 0 : static_cast<double>(header.bytes_measured()) * 8 / header.elapsed_us());
    return true;
}

void Prober::finish(PeerId to, double mbit_per_s) {
    const auto found = sending_.find(to);
    if (found == sending_.end()) return;
    const std::uint64_t round = found->second->round;
    if (Link *link = links_.up(to)) link->remove_producer(found->second.get());
    sending_.erase(found);
    host_.probe_finished(round, to, mbit_per_s);
}

void Prober::link_down(PeerId other) {
    receiving_.erase(other);
    finish(other, 0);
}

}  // namespace pccl::peer
