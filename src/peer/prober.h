// Measures the bandwidth of a link. The sender sends data for a given time; the receiver reports how many bytes arrived in how
// many microseconds. I/O thread only.
#pragma once

#include <map>
#include <memory>

#include "base/time.h"
#include "peer/frame_consumer.h"
#include "peer/link_table.h"
#include "wire/messages.h"

namespace pccl::peer {

class ProberHost {
public:
    virtual ~ProberHost() = default;
    /// `mbit_per_s`: 0 if the link broke, or the receiver measured nothing.
    virtual void probe_finished(std::uint64_t round, PeerId to, double mbit_per_s) = 0;
};

class Prober final : public FrameConsumer {
public:
    Prober(ProberHost &host, LinkTable &links);

    void start(const wire::Probe &probe);
    std::vector<wire::FrameKind> kinds() const override;
    Intake prepare_receive(Link &link, const wire::FrameHeader &header) override;
    bool receive(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    void link_down(PeerId other) override;
    void clear(const Error & /*why*/) override {
        sending_.clear();
        receiving_.clear();
    }

private:
    static constexpr std::size_t kProbeBytes = std::size_t{128} << 10;

    struct Sending final : Producer {
        bool produce(Link &link, OutFrame &frame) override;
        std::uint64_t round = 0;
        Time until;
        Buffer data;
        std::uint64_t checksum = 0;
        bool ended = false;
    };
    struct Receiving {
        std::uint64_t round = 0;
        Time first, last;
        std::uint64_t bytes = 0;  ///< received after the first frame
        bool active = false;
    };

    void finish(PeerId to, double mbit_per_s);

    ProberHost &host_;
    LinkTable &links_;
    Buffer data_;  ///< the payload of every frame: zeros
    std::uint64_t data_checksum_;
    std::map<PeerId, std::unique_ptr<Sending>> sending_;
    std::map<PeerId, Receiving> receiving_;
};

}  // namespace pccl::peer
