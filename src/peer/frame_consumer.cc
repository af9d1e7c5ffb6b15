// See frame_consumer.h.
#include "peer/frame_consumer.h"

#include <cassert>

namespace pccl::peer {

void FrameConsumers::add(FrameConsumer &consumer) {
    all_.push_back(&consumer);
    for (const wire::FrameKind kind : consumer.kinds()) {
        FrameConsumer *&entry = by_kind_[static_cast<std::size_t>(kind)];
        assert(entry == nullptr);
        entry = &consumer;
    }
}

}  // namespace pccl::peer
