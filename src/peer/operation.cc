#include "peer/operation.h"

#include <cstring>

#include "kernel/hash.h"
#include "kernel/quantize.h"

namespace pccl::peer {

void Operation::carry_own(OutFrame &frame, op::Span span, std::size_t bytes, BufferPool &pool) const {
    const auto &what = request_.what;
    frame.header.bytes = static_cast<std::uint32_t>(bytes);
    frame.planes = planes(what.type);
    const std::byte *mine = request_.sent(span.begin);
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

void Operation::keep_own(const OutFrame &frame, op::Span span) {
    std::byte *const into = request_.place(span.begin);
    if (quantized()) {
        if (request_.overwrites(span)) request_.save(span);
        kernel::dequantize_output(request_.what.quantization, request_.what.type, into, frame.payload, span.count);
    } else if (!request_.in_place()) {
        std::memcpy(into, frame.payload, frame.header.bytes);
    }
}

}  // namespace pccl::peer
