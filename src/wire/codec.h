// Values to bytes and back. Little-endian, no padding, and a u32 length before every string and list. A Reader never reads past
// its end, never allocates more than its bytes could fill, and after its first error returns only zeros.
//
// A message has one function visit(v, m) that names its fields in wire order: `v(m.call, m.graph);`. Writer and Reader both call
// it.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "wire/limits.h"

namespace pccl::wire {

static_assert(std::endian::native == std::endian::little, "the codec copies little-endian words");

using Bytes = std::vector<std::byte>;

/// The number of enumerators of a wire enum. Values that are not smaller are rejected.
template <class E> struct EnumLimit;

/// A vector or string with the greatest length it may have: `v(bounded(names, kMaxTensors))`.
template <class C> struct Bounded {
    C &container;
    std::size_t limit;
};
template <class C> Bounded<C> bounded(C &container, std::size_t limit) { return {container, limit}; }

/// An enum field in which only the values below `limit` are valid.
template <class E> struct Below {
    E &value;
    unsigned limit;
};
template <class E> Below<E> below(E &value, unsigned limit) { return {value, limit}; }

class Writer {
public:
    explicit Writer(Bytes &out) : out_(out) {}

    /// Several fields, in this order.
    template <class... Fields>
    requires(sizeof...(Fields) > 1) void operator()(Fields &&...fields) { ((*this)(std::forward<Fields>(fields)), ...); }

    template <class T>
    requires std::is_arithmetic_v<T>
    void operator()(T value) {
        const auto at = out_.size();
        out_.resize(at + sizeof value);
        std::memcpy(out_.data() + at, &value, sizeof value);
    }
    template <class E>
    requires std::is_enum_v<E>
    void operator()(E value) { (*this)(static_cast<std::uint8_t>(value)); }
    template <class E> void operator()(Below<E> b) { (*this)(b.value); }
    template <class T, class R> void operator()(const Id<T, R> &id) { (*this)(id.value); }
    template <std::size_t N> void operator()(const std::array<std::uint8_t, N> &bytes) { append(bytes.data(), N); }
    template <class C> void operator()(Bounded<C> b) {
        if constexpr (std::is_same_v<std::remove_const_t<C>, std::string>) {
            // Texts quote each other. One that exceeds its limit is cut: the receiver would reject the message.
            const std::size_t size = std::min(b.container.size(), b.limit);
            (*this)(static_cast<std::uint32_t>(size));
            append(b.container.data(), size);
        } else {
            (*this)(static_cast<std::uint32_t>(b.container.size()));
            for (auto &item : b.container)
                (*this)(item);
        }
    }
    template <class M>
    requires requires(M &m, Writer &w) { visit(w, m); }
    void operator()(const M &message) {
        visit(*this, const_cast<M &>(message));  // visit is shared with the Reader, which does write
    }

private:
    void append(const void *data, std::size_t bytes) {
        const auto *first = static_cast<const std::byte *>(data);
        out_.insert(out_.end(), first, first + bytes);
    }

    Bytes &out_;
};

class Reader {
public:
    explicit Reader(std::span<const std::byte> in) : in_(in) {}

    /// True if everything read so far was present and within its limits.
    bool ok() const { return ok_; }
    /// True if, in addition, no bytes are left over.
    bool finished() const { return ok_ && in_.empty(); }

    /// Several fields, in this order.
    template <class... Fields>
    requires(sizeof...(Fields) > 1) void operator()(Fields &&...fields) { ((*this)(std::forward<Fields>(fields)), ...); }

    template <class T>
    requires std::is_arithmetic_v<T>
    void operator()(T &value) {
        if constexpr (std::is_same_v<T, bool>) {
            std::uint8_t byte = 0;
            (*this)(byte);
            if (byte > 1) fail();
            value = byte == 1;
        } else {
            value = T{};
            take(&value, sizeof value);
        }
    }
    template <class E>
    requires std::is_enum_v<E>
    void operator()(E &value) {
        std::uint8_t byte = 0;
        (*this)(byte);
        if (byte >= EnumLimit<E>::value) {
            fail();
            byte = 0;
        }
        value = static_cast<E>(byte);
    }
    template <class E> void operator()(Below<E> b) {
        (*this)(b.value);
        if (static_cast<unsigned>(b.value) < b.limit) return;
        b.value = E{};
        fail();
    }
    template <class T, class R> void operator()(Id<T, R> &id) { (*this)(id.value); }
    template <std::size_t N> void operator()(std::array<std::uint8_t, N> &bytes) { take(bytes.data(), N); }
    template <class C> void operator()(Bounded<C> b) {
        std::uint32_t size = 0;
        (*this)(size);
        b.container.clear();
        // Every item takes at least one byte, so a count larger than the remaining bytes is invalid.
        if (size > b.limit || size > in_.size()) return fail();
        if constexpr (std::is_same_v<C, std::string>) {
            b.container.resize(size);
            take(b.container.data(), size);
        } else {
            for (std::uint32_t i = 0; i < size && ok_; ++i)
                (*this)(b.container.emplace_back());
        }
    }
    template <class M>
    requires requires(M &m, Reader &r) { visit(r, m); }
    void operator()(M &message) { visit(*this, message); }

private:
    void fail() {
        ok_ = false;
        in_ = {};
    }
    void take(void *out, std::size_t bytes) {
        if (bytes > in_.size()) {
            std::memset(out, 0, bytes);
            return fail();
        }
        if (bytes > 0) std::memcpy(out, in_.data(), bytes);
        in_ = in_.subspan(bytes);
    }

    std::span<const std::byte> in_;
    bool ok_ = true;
};

template <class V> void visit(V &v, IpAddress &ip) { v(ip.v6, ip.octets); }
template <class V> void visit(V &v, SocketAddress &a) { v(a.ip, a.port); }
template <class V> void visit(V &v, OpId &op) { v(op.epoch, op.tag, op.seq); }

}  // namespace pccl::wire
