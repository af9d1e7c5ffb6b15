// The codec decodes every message that it encoded, and rejects truncated, padded, oversized and random input.
#include "wire/messages.h"

#include "wire/frame.h"

#include <gtest/gtest.h>
#include <random>

namespace pccl::wire {
namespace {

/// Visits a message as a Reader does and gives every field a value of its own.
class Filler {
public:
    explicit Filler(std::size_t items) : items_(items) {}

    template <class... Fields>
    requires(sizeof...(Fields) > 1) void operator()(Fields &&...fields) { ((*this)(std::forward<Fields>(fields)), ...); }

    template <class T>
    requires std::is_arithmetic_v<T>
    void operator()(T &value) {
        if constexpr (std::is_same_v<T, bool>)
            value = ++count_ % 2 == 0;
        else
            value = static_cast<T>(++count_ * 37);
    }
    template <class E>
    requires std::is_enum_v<E>
    void operator()(E &value) { value = static_cast<E>(++count_ % EnumLimit<E>::value); }
    template <class E> void operator()(Below<E> b) { b.value = static_cast<E>(++count_ % b.limit); }
    template <class T, class R> void operator()(Id<T, R> &id) { (*this)(id.value); }
    template <std::size_t N> void operator()(std::array<std::uint8_t, N> &bytes) {
        for (auto &byte : bytes)
            byte = static_cast<std::uint8_t>(++count_);
    }
    template <class C> void operator()(Bounded<C> b) {
        if constexpr (std::is_same_v<C, std::string>) {
            b.container = "words " + std::to_string(++count_);
        } else {
            b.container.resize(std::min(items_, b.limit));
            for (auto &item : b.container)
                (*this)(item);
        }
    }
    template <class M>
    requires requires(M &m, Filler &f) { visit(f, m); }
    void operator()(M &message) { visit(*this, message); }

private:
    std::size_t items_;
    unsigned count_ = 0;
};

/// One message of each type of a variant. Each of its lists has `items` items.
template <class Variant, std::size_t I = 0> void each(std::size_t items, std::vector<Variant> &out) {
    if constexpr (I < std::variant_size_v<Variant>) {
        std::variant_alternative_t<I, Variant> message;
        Filler fill(items);
        fill(message);
        out.push_back(std::move(message));
        each<Variant, I + 1>(items, out);
    }
}
template <class Variant> std::vector<Variant> all_messages() {
    std::vector<Variant> all;
    for (const std::size_t items : {0u, 1u, 3u})
        each(items, all);
    return all;
}

std::span<const std::byte> body(const Bytes &frame) { return std::span(frame).subspan(4); }

template <class Variant> class Codec : public testing::Test {};
using Variants = testing::Types<ToMaster, ToPeer>;
TYPED_TEST_SUITE(Codec, Variants);

TYPED_TEST(Codec, DecodedMessageEqualsTheEncodedOne) {
    for (const TypeParam &message : all_messages<TypeParam>()) {
        const Bytes frame = encode(message);
        std::uint32_t length = 0;
        std::memcpy(&length, frame.data(), sizeof length);
        ASSERT_EQ(length, frame.size() - 4);
        TypeParam back;
        ASSERT_TRUE(decode(body(frame), back)) << name_of(message);
        EXPECT_EQ(back.index(), message.index());
        EXPECT_EQ(encode(back), frame) << name_of(message);
    }
}

TYPED_TEST(Codec, TruncatedMessageIsRejected) {
    for (const TypeParam &message : all_messages<TypeParam>()) {
        const Bytes frame = encode(message);
        for (std::size_t size = 0; size < frame.size() - 4; ++size) {
            TypeParam back;
            EXPECT_FALSE(decode(body(frame).first(size), back)) << name_of(message) << " cut to " << size;
        }
    }
}

TYPED_TEST(Codec, BytesLeftOverAreRejected) {
    for (const TypeParam &message : all_messages<TypeParam>()) {
        Bytes frame = encode(message);
        frame.push_back(std::byte{0});
        TypeParam back;
        EXPECT_FALSE(decode(body(frame), back)) << name_of(message);
    }
}

TYPED_TEST(Codec, UnknownTypesAreRejected) {
    for (std::size_t type = std::variant_size_v<TypeParam>; type < 256; ++type) {
        const Bytes frame{static_cast<std::byte>(type)};
        TypeParam back;
        EXPECT_FALSE(decode(frame, back)) << type;
    }
}

TYPED_TEST(Codec, RandomBytesAndFlippedBitsDoNoHarm) {
    std::mt19937 random(7);
    for (int round = 0; round < 3000; ++round) {
        Bytes bytes(random() % 200);
        for (auto &byte : bytes)
            byte = static_cast<std::byte>(random());
        TypeParam back;
        decode(bytes, back);
    }
    for (const TypeParam &message : all_messages<TypeParam>()) {
        const Bytes frame = encode(message);
        for (int round = 0; round < 100; ++round) {
            Bytes bent(frame.begin() + 4, frame.end());
            bent[random() % bent.size()] ^= static_cast<std::byte>(1u << random() % 8);
            TypeParam back;
            if (!decode(bent, back)) continue;
            EXPECT_EQ(encode(back).size(), bent.size() + 4);  // it was decoded as another valid message
        }
    }
}

TEST(CodecLimits, CountBeyondTheBytesIsRejectedWithoutAllocating) {
    for (const std::uint32_t count : {5u, 65536u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
        Bytes frame{std::byte{7}};  // Done
        ASSERT_EQ(ToMaster(Done{}).index(), 7u);
        frame.resize(5);
        std::memcpy(frame.data() + 1, &count, sizeof count);
        ToMaster back;
        EXPECT_FALSE(decode(frame, back)) << count;
    }
}

TEST(CodecLimits, ListLongerThanItsLimitIsRejected) {
    ToMaster waiting = Waiting{Blocked::none, std::vector<OpId>(kMaxOpsInMessage)};
    ToMaster back;
    EXPECT_TRUE(decode(body(encode(waiting)), back));
    std::get<Waiting>(waiting).ops.push_back({});
    EXPECT_FALSE(decode(body(encode(waiting)), back));
}

TEST(CodecLimits, TextBeyondItsLimitIsCut) {
    const ToPeer removed = Removed{pcclInternalError, std::string(3 * kMaxText, 'x')};
    ToPeer back;
    ASSERT_TRUE(decode(body(encode(removed)), back));
    EXPECT_EQ(std::get<Removed>(back).why, std::string(kMaxText, 'x'));
}

TEST(CodecLimits, BoolsAndEnumsHaveNoOtherValues) {
    Bytes frame = encode(ToMaster(SyncDone{1, true, ""}));
    ToMaster back;
    frame[4 + 1 + 8] = std::byte{2};
    EXPECT_FALSE(decode(body(frame), back));

    Bytes removed = encode(ToPeer(Removed{pcclSuccess, ""}));
    removed[5] = static_cast<std::byte>(pcclStatusEnd_);
    ToPeer peer;
    EXPECT_FALSE(decode(body(removed), peer));
}

/// True if a message with this element type in its byte `at` is accepted.
template <class M> bool accepts(M message, std::size_t at, unsigned type) {
    Bytes bytes;
    Writer write(bytes);
    write(message);
    bytes[at] = static_cast<std::byte>(type);
    M back;
    Reader read(bytes);
    read(back);
    return read.finished();
}

TEST(ElementTypes, QuantizedTypesAreNotOperandTypes) {
    const std::size_t after_count = sizeof(std::uint64_t), after_name = sizeof(std::uint32_t);
    for (unsigned type = 0; type < 256; ++type) {
        EXPECT_EQ(accepts(op::OperationSpec{}, after_count, type), type <= 11) << type;
        EXPECT_EQ(accepts(TensorOffer{}, after_name, type), type <= 11) << type;
        EXPECT_EQ(accepts(op::OperationSpec{}, after_count + 3, type), type <= 14) << type;
    }
}

}  // namespace
}  // namespace pccl::wire
