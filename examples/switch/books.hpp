// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a switch's members did, and whether every frame is accounted for.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/account.hpp"
#include "common/expect.hpp"
#include "common/metrics.hpp"
#include "common/rates.hpp"
#include "common/open.hpp"

namespace vswitch {

template <class... P>
std::variant<nm::vale::bwrap<P>...> member_of(const std::variant<P...>&);
/// A member, whatever port it is.
using member = decltype(member_of(std::declval<tool::any_port&>()));

/// One member's frames: on its device, and the same ones on the switch.
struct account {
    nm::port_info info;
    nm::counters in, out;        ///< received from the device, sent there
    nm::counters sent, arrived;  ///< sent into the switch, come out of it
    std::uint64_t left_in = 0, left_out = 0;  ///< received and not moved on
    std::uint64_t unsent = 0;                 ///< given to the device, and not gone yet
    std::uint64_t floods = 0;

    [[nodiscard]] bool conserved() const noexcept {
        return in.frames == sent.frames + left_in && arrived.frames == out.frames + left_out;
    }
    [[nodiscard]] std::uint64_t dropped() const noexcept {
        return in.dropped() + out.dropped() + sent.dropped() + arrived.dropped();
    }
    [[nodiscard]] tool::json to_json() const {
        const auto side = [](const nm::counters& c) {
            return tool::json().add("frames", c.frames).add("bytes", c.bytes).add("dropped", c.dropped()).add("drops", tool::drops_json(c));
        };
        return tool::to_json(info)
            .add("rx", side(in))
            .add("to_switch", side(sent).add("floods", floods).add("left", left_in))
            .add("from_switch", side(arrived).add("left", left_out))
            .add("tx", side(out).add("unsent", unsent))
            .add("conserved", conserved());
    }
    [[nodiscard]] std::string line() const {
        std::string text = fmt::format("{:<16} {:<12} {:>12} {:>15} {:>12} {:>15} {:>10} {:>10}\n", info.name, info.mode, in.frames,
                                       in.bytes, out.frames, out.bytes, floods, dropped());
        const auto add = [&text](const char* where, const nm::counters& c) {
            if (c.dropped() != 0) text += fmt::format("  dropped {}: {}\n", where, tool::drops_text(c));
        };
        add("before the switch", in);
        add("on the switch", sent);
        add("for want of room here", arrived);
        add("by the device", out);
        return text + (conserved() ? "" : "  NOT CONSERVED\n");
    }
};

class books {
public:
    books(nm::vale::vale_switch<>& sw, bool json, bool quiet) : sw_(sw), json_(json), quiet_(json || quiet), then_(nm::system_clock::now_ns()) {}

    /// The last look at a member.
    void close(member& m) { closed_.push_back(look(m)); }

    /// A line per member, with what it did since the last one.
    template <class Members>
    void report(Members& members) {
        const auto now = nm::system_clock::now_ns();
        const double seconds = static_cast<double>(now - std::exchange(then_, now)) / 1e9;
        std::string list;
        for (auto& m : members) {
            const account a = look(m);
            auto& last = last_[a.info.name];
            const double in = static_cast<double>(a.in.frames - std::exchange(last.first, a.in.frames)) / seconds;
            const double out = static_cast<double>(a.out.frames - std::exchange(last.second, a.out.frames)) / seconds;
            tool::print_err(fmt::format("{:<16} {}pps in, {}pps out, {} floods, {} dropped\n", a.info.name, tool::in_units(in),
                                        tool::in_units(out), a.floods, a.dropped()));
            list += (list.empty() ? "" : ", ") + a.to_json().add("rx_pps", in).add("tx_pps", out).text();
        }
        if (json_) tool::print_out(tool::json().add("type", "interval").add("seconds", seconds).raw("ports", "[" + list + "]").text() + "\n");
    }

    /// The device under its name; its place on the switch under the switch's and its own.
    template <class Members>
    void count(tool::metrics& m, Members& members) {
        for (const auto& a : closed_) add(m, a);
        for (auto& one : members) add(m, look(one));
        const auto s = sw_.stats();
        tool::add_switch(m, sw_.name(), {s.accepted, s.replicas, s.delivered, s.dropped(), sw_.lookup().stats().learnt});
    }

    /// For --csv: in is what came from the device.
    template <class Members>
    [[nodiscard]] std::vector<tool::port_look> looks(Members& members) {
        std::vector<tool::port_look> all;
        const auto add = [&all](const account& a) {
            tool::port_look l{a.info.name, "member", a.info.mode, {}, a.in, a.out};
            for (std::size_t i = 0; i < nm::causes; ++i) {
                l.in.drops[i] += a.sent.drops[i];
                l.out.drops[i] += a.arrived.drops[i];
            }
            all.push_back(std::move(l));
        };
        for (const auto& a : closed_) add(a);
        for (auto& m : members) add(look(m));
        return all;
    }

    struct verdict {
        bool conserved;
        std::vector<tool::outcome> outcomes;
    };
    /// The closing table, when all members are closed. Frames that members' devices dropped are lost, too.
    [[nodiscard]] verdict summary(const tool::expectations& expect, double seconds) {
        const auto s = sw_.stats();
        bool conserved = s.conserved();
        std::uint64_t sent = s.accepted + s.replicas, lost = s.dropped();
        std::string table = fmt::format("{:<16} {:<12} {:>12} {:>15} {:>12} {:>15} {:>10} {:>10}\n", "member", "mode", "frames in",
                                        "bytes in", "frames out", "bytes out", "floods", "dropped");
        std::string list;
        for (const auto& a : closed_) {
            conserved = conserved && a.conserved();
            sent += a.in.dropped();
            lost += a.in.dropped() + a.out.dropped();
            table += a.line();
            list += (list.empty() ? "" : ", ") + a.to_json().text();
        }
        table += fmt::format("{}: {} accepted + {} copies = {} delivered + {} dropped: {}\n", sw_.name(), s.accepted, s.replicas,
                             s.delivered, s.dropped(), conserved ? "conserved" : "NOT CONSERVED");
        auto outcomes = tool::judge(expect, sent, lost, seconds > 0 ? static_cast<double>(s.accepted) / seconds : 0);
        table += tool::to_text(outcomes);
        if (quiet_) tool::print_err(table);
        else tool::print_out(table);
        if (json_) {
            const nm::counters drops{.drops = s.drops};
            tool::print_out(tool::json()
                                .add("type", "summary")
                                .add("name", sw_.name())
                                .raw("ports", "[" + list + "]")
                                .add("switch", tool::json()
                                                   .add("accepted", s.accepted)
                                                   .add("replicas", s.replicas)
                                                   .add("delivered", s.delivered)
                                                   .add("dropped", s.dropped())
                                                   .add("drops", tool::drops_json(drops))
                                                   .add("stations", sw_.lookup().stats().learnt))
                                .add("conserved", conserved)
                                .raw("expectations", tool::to_json(outcomes))
                                .text() +
                            "\n");
        }
        return {conserved, std::move(outcomes)};
    }

private:
    void add(tool::metrics& m, const account& a) const {
        const auto device = tool::labels_of("switch", a.info.name), place = tool::labels_of("switch", sw_.name() + ":" + a.info.name);
        tool::add_mode(m, device, a.info.mode);
        tool::add_direction(m, device, "rx", a.in);
        tool::add_direction(m, device, "tx", a.out);
        tool::add_direction(m, place, "tx", a.sent);
        tool::add_direction(m, place, "rx", a.arrived);
        m.counter("nm_port_floods", "Frames of a port that went to several others.", place, a.floods);
    }
    [[nodiscard]] account look(member& m) {
        return std::visit([this](auto& b) {
            auto& device = b.port();
            auto& place = b.on_switch();
            account a{.info = device.info(), .in = device.rx_stats(), .out = device.tx_stats(), .sent = place.tx_stats(), .arrived = place.rx_stats()};
            for (nm::index_t i = 0; i < device.num_rx_rings(); ++i) a.left_in += tool::left_frames(device.rx(i));
            for (nm::index_t i = 0; i < place.num_rx_rings(); ++i) a.left_out += tool::left_frames(place.rx(i));
            for (nm::index_t i = 0; i < device.num_tx_rings(); ++i) a.unsent += tool::pending_frames(device.tx(i));
            for (const auto& p : sw_.ports())
                if (p.number == place.number() && place.status()) a.floods = p.floods;
            return a;
        }, m);
    }

    nm::vale::vale_switch<>& sw_;
    bool json_, quiet_;  ///< stdout is for others
    std::uint64_t then_;
    std::vector<account> closed_;
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> last_;
};

}  // namespace vswitch
