// Measures the bandwidth of a link: the sender fills it for a while, the receiver tells how much arrived in what time. I/O thread only.
#pragma once

#include <map>
#include <memory>

#include "base/time.h"
#include "peer/link_table.h"
#include "wire/messages.h"

namespace pccl::peer {

class ProberHost {
public:
    virtual ~ProberHost() = default;
    virtual void probe_finished(std::uint64_t round, PeerId to, double mbit_per_s) = 0;
};

class Prober {
public:
    Prober(ProberHost &host, LinkTable &links);

    void start(const wire::Probe &probe);
    static bool handles(wire::FrameKind kind) { return kind >= wire::FrameKind::probe_data && kind <= wire::FrameKind::probe_result; }
    Intake intake(Link &link, const wire::FrameHeader &header);
    void receive(Link &link, const wire::FrameHeader &header);
    void link_down(PeerId other);
    /// Forgets everything. The links are gone.
    void clear() {
        sending_.clear();
        receiving_.clear();
    }

private:
    static constexpr std::size_t kProbeBytes = std::size_t{128} << 10;

    struct Sending final : Producer {
        bool produce(Link &link, OutFrame &frame) override;
        std::uint64_t round = 0;
        Time until;
        Buffer junk;
        std::uint64_t checksum = 0;
        bool ended = false;
    };
    struct Receiving {
        std::uint64_t round = 0;
        Time first, last;
        std::uint64_t bytes = 0;  ///< after the first frame
        bool active = false;
    };

    void finish(PeerId to, double mbit_per_s);

    ProberHost &host_;
    LinkTable &links_;
    Buffer junk_;
    std::uint64_t junk_checksum_;
    std::map<PeerId, std::unique_ptr<Sending>> sending_;
    std::map<PeerId, Receiving> receiving_;
};

}  // namespace pccl::peer
