// Every control message, in both directions: encoding an accepted message gives the same bytes (decode and encode are inverse),
// and decoding allocates no more memory than the given bytes can fill.
#include "check.h"
#include "input.h"
#include "wire/frame.h"
#include "wire/messages.h"

namespace {

using namespace pccl;

template <class Message> void both_ways(std::span<const std::byte> frame) {
    const std::size_t before = fuzz::heap_bytes();
    Message message;
    const bool accepted = wire::decode(frame, message);
    // The largest item that one byte on the wire may announce is a tensor's pull or offer; vectors grow by doubling.
    FUZZ_CHECK(fuzz::heap_bytes() <= before + 4096 + frame.size() * 256);
    if (!accepted) return;
    FUZZ_CHECK(wire::name_of(message) != nullptr);
    const wire::Bytes again = wire::encode(message);
    FUZZ_CHECK(again.size() == frame.size() + sizeof(std::uint32_t));
    FUZZ_CHECK(std::memcmp(again.data() + sizeof(std::uint32_t), frame.data(), frame.size()) == 0);
}

/// The payloads of data frames that have fields.
template <class Payload> void payload(std::span<const std::byte> bytes) {
    Payload value;
    wire::Reader read(bytes);
    read(value);
    if (!read.finished()) return;
    wire::Bytes again;
    wire::Writer write(again);
    write(value);
    FUZZ_CHECK(again.size() == bytes.size() && std::memcmp(again.data(), bytes.data(), bytes.size()) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    fuzz::Input input(data, size);
    const auto which = input.below(4);
    const auto bytes = std::as_bytes(input.all());
    switch (which) {
    case 0: both_ways<wire::ToMaster>(bytes); break;
    case 1: both_ways<wire::ToPeer>(bytes); break;
    case 2: payload<wire::LinkHello>(bytes); break;
    default: payload<op::OperationSpec>(bytes); break;
    }
    return 0;
}
