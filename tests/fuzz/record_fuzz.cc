// The record that a restarted master reads from its journal. Modified values are rejected with an error or accepted. From every
// accepted record a master starts, waits for its members, and continues without those that do not resume.
#include "check.h"
#include "input.h"
#include "protocol/master.h"
#include "protocol/record.h"

namespace {

using namespace pccl;
using namespace pccl::protocol;
using fuzz::Input;

Record arbitrary(Input &input) {
    Record record;
    record.run = {1};
    record.starts = 1 + input.below(3);
    record.next_peer = input.mostly<std::uint8_t>(9);
    record.view = ViewNumber{input.mostly<std::uint8_t>(7)};
    const std::size_t groups = input.below(3);
    for (std::uint32_t g = 0; g < groups; ++g) {
        GroupRecord group;
        group.id = GroupId{input.mostly(g)};
        const std::size_t members = 1 + input.below(3);
        for (std::size_t i = 0; i < members; ++i) {
            MemberRecord member;
            member.id = PeerId{input.mostly<std::uint8_t>(static_cast<std::uint8_t>(record.members.size() + 1))};
            member.group = GroupId{input.mostly(g)};
            group.view.ring.push_back(PeerId{input.mostly<std::uint8_t>(static_cast<std::uint8_t>(member.id.value))});
            record.members.push_back(member);
        }
        group.view.number = group.view.epoch = ViewNumber{input.mostly<std::uint8_t>(5)};
        group.synced = input.below(2) != 0;
        if (group.synced) group.last_members = group.view.ring;
        record.view_groups.push_back({group.id, static_cast<std::uint32_t>(members)});
        record.groups.push_back(std::move(group));
    }
    if (record.members.size() > 1 && input.below(2)) record.paths.push_back({PeerId{1}, PeerId{2}, input.take<double>(), 1.0});
    return record;
}

void start_from(const Record &record) {
    Master master(
        {}, [] { return Secret{1}; }, record);
    MasterEffects effects;
    Time now{std::chrono::seconds(1)};
    for (int i = 0; i < 40; ++i) {
        effects.clear();
        for (int again = 0; again < 2; ++again)  // work that a tick makes due at once is done in the next one
            master.step(now, MasterTick{}, effects);
        FUZZ_CHECK(master.next_timeout() > now);
        now = now + std::chrono::seconds(2);
    }
    FUZZ_CHECK(master.members().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input(data, size);
    NamedValues values = encode(arbitrary(input));
    for (std::size_t changes = input.below(4); changes > 0 && !values.empty(); --changes) {
        auto &[name, bytes] = *std::next(values.begin(), static_cast<std::ptrdiff_t>(input.below(values.size())));
        switch (input.below(4)) {
        case 0: values.erase(name); break;
        case 1: bytes.resize(input.below(bytes.size() + 1)); break;
        case 2:
            if (!bytes.empty()) bytes[input.below(bytes.size())] = input.take<std::byte>();
            break;
        default: {
            const auto other = std::as_bytes(input.bytes(40));
            bytes.assign(other.begin(), other.end());
        }
        }
    }
    const auto record = decode_record(values);
    if (!record) {
        FUZZ_CHECK(!record.error().what.empty());
        return 0;
    }
    const auto again = decode_record(encode(*record));
    FUZZ_CHECK(again && encode(*again) == encode(*record));
    start_from(*record);
    return 0;
}
