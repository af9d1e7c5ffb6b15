// See operation.h.
#include "peer/operation.h"

#include "kernel/hash.h"
#include "kernel/quantize.h"

namespace pccl::peer {

void Operation::fill_from_own(OutFrame &frame, op::Span span, std::size_t bytes, BufferPool &pool) const {
    frame.header.bytes = static_cast<std::uint32_t>(bytes);
    frame.planes = planes(spec().type);
    const std::byte *mine = request_.input(span.begin);
    if (quantized()) {
        frame.keep = pool.get(bytes);
        kernel::quantize_input(spec().quantization, spec().type, frame.keep.get(), mine, span.count,
                               request_.feedback(span.begin));
        frame.payload = frame.keep.get();
    } else {
        frame.payload = mine;
        frame.owner = this;
    }
    frame.header.checksum = kernel::checksum(frame.payload, bytes);
}

void Operation::store_own_chunk(const OutFrame &frame, op::Span span) {
    if (quantized()) {
        if (request_.overwrites(span)) request_.save(span);
        kernel::dequantize_output(spec().quantization, spec().type, request_.output(span.begin), frame.payload, span.count);
    } else if (!request_.in_place()) {
        request_.store(span, frame.payload);
    }
}

}  // namespace pccl::peer
