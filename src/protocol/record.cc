// See record.h.
#include "protocol/record.h"

#include <algorithm>
#include <set>

namespace pccl::protocol {

namespace {

constexpr const char *kRun = "run", *kMembers = "members", *kPaths = "paths", *kIslands = "islands";

std::string group_key(GroupId group, const char *what) { return "group/" + std::to_string(group.value) + "/" + what; }

/// The parts of a record. Each is stored as one value.
struct RunPart {
    Record &record;
    std::vector<GroupId> groups;
};
template <class V> void visit(V &v, RunPart &m) {
    v(m.record.run, m.record.starts, m.record.view, wire::bounded(m.record.view_groups, wire::kMaxPeers),
      m.record.view_generation, m.record.next_peer, m.record.generation, m.record.answer,
      wire::bounded(m.groups, wire::kMaxPeers));
}

template <class T> struct ListPart {
    std::vector<T> &items;
    std::size_t limit;
};
template <class V, class T> void visit(V &v, ListPart<T> &m) { v(wire::bounded(m.items, m.limit)); }

struct SyncPart {
    GroupRecord &group;
};
template <class V> void visit(V &v, SyncPart &m) {
    v(m.group.answer, m.group.synced, m.group.revision, wire::bounded(m.group.last_members, wire::kMaxPeers));
}

/// More edges than a graph of kMaxPeers members has.
constexpr std::size_t kMaxEdges = wire::kMaxPeers * wire::kMaxDegree;

struct GraphPart {
    GraphRecord &graph;
};
template <class V> void visit(V &v, GraphPart &m) {
    v(m.graph.spec, m.graph.epoch, m.graph.changes, wire::bounded(m.graph.members, wire::kMaxPeers),
      wire::bounded(m.graph.edges, kMaxEdges));
}

/// The island of a member.
struct IslandRecord {
    PeerId peer;
    std::uint64_t island = 0;
    std::uint32_t peers = 0;
};
template <class V> void visit(V &v, IslandRecord &m) { v(m.peer, m.island, m.peers); }

/// Every pair of peers.
constexpr std::size_t kMaxPaths = wire::kMaxPeers * (wire::kMaxPeers - 1) / 2;

ListPart<MemberRecord> members_part(Record &record) { return {record.members, wire::kMaxPeers}; }
ListPart<PathRecord> paths_part(Record &record) { return {record.paths, kMaxPaths}; }
ListPart<wire::TensorOffer> schema_part(GroupRecord &group) { return {group.schema, wire::kMaxTensors}; }

template <class Part> wire::Bytes bytes_of(Part part) {
    wire::Bytes bytes;
    wire::Writer write(bytes);
    visit(write, part);
    return bytes;
}

/// Reads values into parts until one fails. status() is the first error.
class Source {
public:
    explicit Source(const NamedValues &values) : values_(values) {}

    template <class Part> void read(const std::string &key, Part &&part) {
        if (!status_) return;
        const auto found = values_.find(key);
        if (found == values_.end()) {
            status_ = Error{pcclInvalidArgument, "'" + key + "' is missing"};
            return;
        }
        wire::Reader reader(found->second);
        visit(reader, part);
        if (!reader.finished()) status_ = Error{pcclInvalidArgument, "'" + key + "' cannot be read"};
    }
    const Status &status() const { return status_; }

private:
    const NamedValues &values_;
    Status status_;
};

void take_islands(const std::vector<IslandRecord> &islands, Record &record) {
    for (const IslandRecord &known : islands) {
        const auto member = std::ranges::find(record.members, known.peer, &MemberRecord::id);
        if (member == record.members.end()) continue;
        member->island = known.island;
        member->island_peers = known.peers;
    }
}

Status check_group(const Record &record, const GroupRecord &group, const std::set<PeerId> &members) {
    const std::string name = "group " + std::to_string(group.id.value);
    if (members.empty()) return Error{pcclInvalidArgument, name + " has no members"};
    const std::set<PeerId> ring(group.view.ring.begin(), group.view.ring.end());
    if (ring.size() != group.view.ring.size()) return Error{pcclInvalidArgument, "the ring of " + name + " has a member twice"};
    if (!std::ranges::includes(ring, members)) return Error{pcclInvalidArgument, "the ring of " + name + " lacks a member"};
    if (!group.graph.spec.well_formed()) return Error{pcclInvalidArgument, "the graph of " + name + " is invalid"};
    if (group.view.epoch > record.view) return Error{pcclInvalidArgument, name + " has a later epoch than the run's view"};
    return {};
}

/// A master starts with whole islands only (islands.h): it removes the members of an island together.
Status check_islands(const Record &record) {
    std::map<std::uint64_t, std::set<GroupId>> groups;
    for (const auto &member : record.members) {
        const std::string name = "island " + std::to_string(member.island);
        if (member.island != 0 && !groups[member.island].insert(member.group).second)
            return Error{pcclInvalidArgument, name + " has two members in one group"};
    }
    for (const auto &member : record.members) {
        const std::string name = "island " + std::to_string(member.island);
        if (member.island != 0 && groups[member.island].size() != member.island_peers)
            return Error{pcclInvalidArgument, name + " is not whole"};
    }
    return {};
}

Status check(const Record &record) {
    if (record.starts >= (std::uint64_t{1} << 31)) return Error{pcclInvalidArgument, "too many starts"};
    std::map<GroupId, std::set<PeerId>> by_group;
    PeerId last;
    for (const auto &member : record.members) {
        if (member.id <= last || member.id.value >= record.next_peer)
            return Error{pcclInvalidArgument, "member ids are not in order"};
        last = member.id;
        by_group[member.group].insert(member.id);
    }
    if (const Status good = check_islands(record); !good) return good;
    std::set<GroupId> known;
    for (const auto &group : record.groups) {
        if (!known.insert(group.id).second) return Error{pcclInvalidArgument, "a group is listed twice"};
        if (const Status good = check_group(record, group, by_group[group.id]); !good) return good;
    }
    for (const auto &[group, members] : by_group) {
        if (!known.contains(group)) return Error{pcclInvalidArgument, "a member's group is missing"};
    }
    return {};
}

}  // namespace

NamedValues encode(const Record &record) {
    Record &fields = const_cast<Record &>(record);  // visit() is shared with the reader, which does write
    NamedValues values;
    RunPart run{fields, {}};
    for (GroupRecord &group : fields.groups) {
        run.groups.push_back(group.id);
        values[group_key(group.id, "view")] = bytes_of(group.view);
        values[group_key(group.id, "sync")] = bytes_of(SyncPart{group});
        values[group_key(group.id, "schema")] = bytes_of(schema_part(group));
        values[group_key(group.id, "graph")] = bytes_of(GraphPart{group.graph});
    }
    values[kRun] = bytes_of(run);
    values[kMembers] = bytes_of(members_part(fields));
    values[kPaths] = bytes_of(paths_part(fields));
    std::vector<IslandRecord> islands;
    for (const MemberRecord &member : record.members) {
        if (member.island != 0) islands.push_back({member.id, member.island, member.island_peers});
    }
    values[kIslands] = bytes_of(ListPart<IslandRecord>{islands, wire::kMaxPeers});
    return values;
}

Result<Record> decode_record(const NamedValues &values) {
    Record record;
    RunPart run{record, {}};
    Source source(values);
    source.read(kRun, run);
    source.read(kMembers, members_part(record));
    source.read(kPaths, paths_part(record));
    if (values.contains(kIslands)) {  // older journals have none
        std::vector<IslandRecord> islands;
        source.read(kIslands, ListPart<IslandRecord>{islands, wire::kMaxPeers});
        take_islands(islands, record);
    }
    for (const GroupId id : run.groups) {
        if (!source.status()) break;
        GroupRecord &group = record.groups.emplace_back();
        group.id = id;
        source.read(group_key(id, "view"), group.view);
        source.read(group_key(id, "sync"), SyncPart{group});
        source.read(group_key(id, "schema"), schema_part(group));
        if (values.contains(group_key(id, "graph")))
            source.read(group_key(id, "graph"), GraphPart{group.graph});  // older journals have none
    }
    if (!source.status()) return source.status().error();
    if (const Status good = check(record); !good) return good.error();
    return record;
}

}  // namespace pccl::protocol
