// The master alone. Tests send it inputs as its peers.
#pragma once

#include "base/assert.h"
#include "protocol/master.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace pccl::protocol {

using namespace std::chrono_literals;
using wire::ToMaster;
using wire::ToPeer;

class MasterTest : public testing::Test {
protected:
    MasterTest() : master_({}, [n = std::uint8_t{0}]() mutable { return Secret{++n}; }) { abort_on_broken_invariants(true); }

    /// Connects a peer that sends Hello. Ids are given in this order, from 1.
    ConnId join(std::uint32_t group = 0) {
        const ConnId conn = connect();
        send(conn, wire::Hello{wire::kMagic, wire::kVersion, GroupId{group}, {}, 0});
        return conn;
    }
    ConnId connect() {
        const ConnId conn{next_conn_++};
        step(Connected{conn, {}});
        return conn;
    }
    void send(ConnId conn, ToMaster message) { step(Received{conn, std::move(message)}); }
    void lose(ConnId conn) { step(Disconnected{conn, "reset"}); }
    void step(const MasterInput &input) {
        MasterEffects effects;
        master_.step(now_, input, effects);
        for (auto &effect : effects) {
            if (auto *sent = std::get_if<SendToPeer>(&effect)) inbox_[sent->conn].push_back(sent->message);
            if (auto *close = std::get_if<CloseConnection>(&effect)) closed_.insert(close->conn);
        }
    }
    /// Lets time pass. All connections but `silent` send heartbeats.
    void pass(Duration time, std::set<ConnId> silent = {}) {
        for (const Time end = now_ + time; now_ < end;) {
            now_ = now_ + 500ms;
            for (const auto &[conn, messages] : inbox_) {
                if (!closed_.contains(conn) && !silent.contains(conn)) send(conn, wire::Heartbeat{});
            }
            step(MasterTick{});
        }
    }
    /// The messages of this type that the connection has received.
    template <class M> std::vector<M> received(ConnId conn) {
        std::vector<M> all;
        for (const auto &message : inbox_[conn]) {
            if (const auto *m = std::get_if<M>(&message)) all.push_back(*m);
        }
        return all;
    }
    /// Both ends of every requested link report it as up.
    void link_all() {
        for (auto &[conn, messages] : inbox_) {
            std::map<PeerId, std::uint32_t> latest;
            for (const auto &link : received<wire::OpenLink>(conn))
                latest[link.other] = link.attempt;
            for (const auto &[other, attempt] : latest)
                if (!closed_.contains(conn)) send(conn, wire::LinkReport{other, attempt, true, 0, ""});
        }
    }
    void down(ConnId conn, std::uint64_t other, std::uint32_t attempt) {
        send(conn, wire::LinkReport{PeerId{other}, attempt, false, 0, "test"});
    }
    /// `n` members of one group.
    std::vector<ConnId> members(std::size_t n) {
        std::vector<ConnId> all;
        for (std::size_t i = 0; i < n; ++i)
            all.push_back(join());
        link_all();
        send(all[0], wire::VoteUpdate{1});
        return all;
    }
    ViewNumber epoch(ConnId conn) { return received<wire::View>(conn).back().epoch; }
    static wire::OfferState offer(std::uint32_t call) { return {call, 0, wire::Strategy::enforce_popular, false, {}}; }
    OpId op(ConnId conn, std::uint64_t tag, std::uint32_t seq = 0) { return {epoch(conn), Tag{tag}, seq}; }
    void thaw(const std::vector<ConnId> &all) {
        for (const ConnId conn : all)
            if (!closed_.contains(conn)) send(conn, wire::Frozen{received<wire::Freeze>(conn).back().freeze, {}});
    }
    std::size_t member_count() {
        const auto infos = master_.members();
        return static_cast<std::size_t>(std::ranges::count_if(infos, [](const auto &info) { return info.member; }));
    }

    Master master_;
    Time now_{1s};
    std::uint64_t next_conn_ = 1;
    std::map<ConnId, std::vector<ToPeer>> inbox_;
    std::set<ConnId> closed_;
};

}  // namespace pccl::protocol
