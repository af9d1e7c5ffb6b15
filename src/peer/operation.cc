#include "peer/operation.h"

#include "kernel/hash.h"
#include "kernel/quantize.h"

namespace pccl::peer {

void Operation::carry_own(OutFrame &frame, collective::Span span, std::size_t bytes, BufferPool &pool) const {
    const auto &what = request_.what;
    frame.header.bytes = static_cast<std::uint32_t>(bytes);
    frame.planes = planes(what.type);
    const std::byte *mine = request_.send + span.begin * kernel::size_of(what.type);
    if (quantized()) {
        frame.keep = pool.get(bytes);
        kernel::quantize_input(what.quantization, what.type, frame.keep.get(), mine, span.count, request_.feedback(span.begin));
        frame.payload = frame.keep.get();
    } else {
        frame.payload = mine;
        frame.owner = this;
    }
    frame.header.checksum = kernel::checksum(frame.payload, bytes);
}

}  // namespace pccl::peer
