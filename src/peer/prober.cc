#include "peer/prober.h"

#include <cstring>

#include "kernel/hash.h"

namespace pccl::peer {

using wire::FrameHeader;
using wire::FrameKind;

Prober::Prober(ProberHost &host, LinkTable &links) : host_(host), links_(links), junk_(new std::byte[kProbeBytes]()) {
    junk_checksum_ = kernel::checksum(junk_.get(), kProbeBytes);
}

void Prober::start(const wire::Probe &probe) {
    Link *link = links_.up(probe.to);
    if (!link) return host_.probe_finished(probe.round, probe.to, 0);
    auto sending = std::make_unique<Sending>();
    sending->round = probe.round;
    // A long path needs some round trips until its windows are open.
    sending->until = monotonic_now() + std::chrono::milliseconds(std::min<std::uint32_t>(probe.duration_ms, 10'000)) + 8 * link->round_trip();
    sending->junk = junk_;
    sending->checksum = junk_checksum_;
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
    frame.payload = junk.get();
    frame.keep = junk;
    return true;
}

Intake Prober::intake(Link &link, const FrameHeader &header) {
    if (header.kind != FrameKind::probe_data) {
        if (header.bytes != 0) return Intake::reject("a probe's end with a payload");
        return {Intake::Action::take, nullptr, nullptr, nullptr, ""};
    }
    Receiving &state = receiving_[link.other()];
    const Time now = monotonic_now();
    if (!state.active || state.round != header.epoch) state = {header.epoch, now, now, 0, true};
    else state.bytes += header.bytes;
    state.last = now;
    return {};  // drained
}

void Prober::receive(Link &link, const FrameHeader &header) {
    if (header.kind == FrameKind::probe_end) {
        Receiving &state = receiving_[link.other()];
        FrameHeader answer;
        answer.kind = FrameKind::probe_result;
        answer.epoch = header.epoch;
        if (state.active && state.round == header.epoch) {
            answer.offset = state.bytes;
            answer.aux = static_cast<std::uint32_t>(std::max<std::int64_t>(1, (state.last - state.first).count()));
        }
        state.active = false;
        return link.send_urgent(small_frame(answer, {}));
    }
    const auto found = sending_.find(link.other());
    if (found == sending_.end() || found->second->round != header.epoch) return;
    finish(link.other(), header.aux == 0 ? 0 : static_cast<double>(header.offset) * 8 / header.aux);
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
