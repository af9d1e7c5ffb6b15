// The frames of data lanes: a header of 64 bytes, then the payload. Little-endian.
//
// `checksum` is XXH3-64 of the payload, `header_checksum` that of the 56 header bytes before it. The shell that does the I/O
// computes both: the 16-bit checksum of TCP is too weak for the traffic of a training run.
//
// The fields `epoch`, `index`, `aux` and `offset` have a meaning per kind; callers use the accessor named for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/ids.h"
#include "op/operation_spec.h"
#include "wire/codec.h"

namespace pccl::wire {

inline constexpr std::uint32_t kFrameMagic = 0x31465043;  // "CPF1"

enum class FrameKind : std::uint8_t {
    link_hello = 0,   ///< first frame of a connection, from the dialler; payload: LinkHello
    link_accept,      ///< the answer to link_hello
    op_open,          ///< the sender posted this operation; payload: OperationSpec
    reduce_chunk,     ///< a contribution or partial result
    gather_chunk,     ///< a final chunk
    probe_data,       ///< payload without meaning
    probe_end,        ///< the sender has stopped
    probe_result,     ///< the receiver's measurement: bytes_measured() in elapsed_us()
    state_ask_list,   ///< requests the chunk checksums of tensor(); payload: the hash of the wanted content
    state_list,       ///< the checksums, 8 bytes per chunk
    state_ask_chunk,  ///< requests chunk() of tensor(); payload: the hash of the wanted content
    state_chunk,      ///< the bytes of the chunk
    state_refuse,     ///< the sender does not hold the content (any more)
    direct_chunk,     ///< a piece of the contribution of the member with rank `index`
    reduce_credit,    ///< contributions to chunks below chunk() of the sender's block may be sent
    post_offer,       ///< offers message() of message_bytes() in chunks of `aux` bytes; payload: all of it, if it is small
    post_grant,       ///< there is room for message()
    post_chunk,       ///< chunk() of message()
    post_end,         ///< message() is over; `aux`: its protocol::PostEnd
    post_withdraw,    ///< the sender withdraws message()
    ask_again,        ///< requests a frame whose payload had a wrong checksum; payload: its header, 64 bytes
};
inline constexpr int kFrameKinds = 21;

struct FrameHeader {
    std::uint32_t magic = kFrameMagic;
    FrameKind kind{};
    std::uint8_t planes = 0;  ///< 0: the payload is not compressed. Otherwise the size of its elements: 1, 2, 4 or 8
    std::uint16_t hop = 0;    ///< chunk: number of members that it passed before the sender; one-hop: the sender's rank
    std::uint64_t epoch = 0;  ///< see op(), sync(), round() and message()
    std::uint64_t tag = 0;
    std::uint32_t seq = 0;
    std::uint32_t index = 0;   ///< the block of a chunk; see tensor()
    std::uint32_t aux = 0;     ///< see chunk() and elapsed_us()
    std::uint32_t bytes = 0;   ///< bytes of payload on the wire
    std::uint64_t offset = 0;  ///< see spec_hash(), bytes_measured() and message_bytes()
    std::uint64_t checksum = 0;
    std::uint64_t header_checksum = 0;

    // Frames of an operation.
    OpId op() const { return {ViewNumber{epoch}, Tag{tag}, seq}; }
    std::uint64_t spec_hash() const { return offset; }  ///< of a chunk: the hash of the sender's OperationSpec
    std::uint32_t block() const { return index; }       ///< of a chunk in a ring or a one-hop
    std::uint32_t chunk() const { return aux; }         ///< of a block, a tensor or a message
    // State frames.
    std::uint64_t sync() const { return epoch; }
    std::uint32_t tensor() const { return index; }
    // Probes.
    std::uint64_t round() const { return epoch; }
    std::uint64_t bytes_measured() const { return offset; }
    std::uint32_t elapsed_us() const { return aux; }
    // Messages between peers.
    std::uint64_t message() const { return epoch; }
    std::uint64_t message_bytes() const { return offset; }
};
static_assert(sizeof(FrameHeader) == 64 && std::is_trivially_copyable_v<FrameHeader>);
inline constexpr std::size_t kFrameHeaderBytes = sizeof(FrameHeader);
inline constexpr std::size_t kHeaderChecked = offsetof(FrameHeader, header_checksum);

/// A compressed payload begins with its plain length, a u32.
inline constexpr std::size_t kPlainLengthBytes = 4;
/// Chunks can be compressed; small frames and frames with a meaning of their own cannot.
constexpr bool may_be_compressed(FrameKind kind) {
    return kind == FrameKind::reduce_chunk || kind == FrameKind::gather_chunk || kind == FrameKind::direct_chunk ||
           kind == FrameKind::state_chunk || kind == FrameKind::post_chunk;
}

/// The receiver requests such a frame again if its payload has a wrong checksum. The sender can check whether its source changed.
constexpr bool may_be_asked_again(FrameKind kind) {
    return kind == FrameKind::reduce_chunk || kind == FrameKind::gather_chunk || kind == FrameKind::direct_chunk ||
           kind == FrameKind::post_chunk;
}

/// The dialler, the peer it dials, and the proof that the master asked for this link.
struct LinkHello {
    Secret run{};
    PeerId from, to;
    std::uint32_t attempt = 0;
    Secret token{};
};
template <class V> void visit(V &v, LinkHello &m) { v(m.run, m.from, m.to, m.attempt, m.token); }
inline constexpr std::size_t kMaxLinkHelloBytes = 128;

template <> struct EnumLimit<op::Op> { static constexpr unsigned value = op::kOps; };
template <> struct EnumLimit<op::Quant> { static constexpr unsigned value = op::kQuants; };
template <> struct EnumLimit<op::Scale> { static constexpr unsigned value = op::kScales; };
template <> struct EnumLimit<op::Algorithm> { static constexpr unsigned value = op::kAlgorithms; };
template <> struct EnumLimit<op::LossPolicy> { static constexpr unsigned value = op::kLossPolicies; };
template <> struct EnumLimit<op::Collective> { static constexpr unsigned value = op::kCollectives; };

template <class V> void visit(V &v, op::OperationSpec &m) {
    v(m.count, below(m.type, op::kTypes), m.op, m.quantization.algorithm, m.quantization.type, m.quantization.block,
      m.quantization.scale, m.algorithm, m.error_feedback, m.on_peer_loss, m.collective);
}

}  // namespace pccl::wire
