// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <poll.h>
#include <string>
#include <vector>

#include "common/idle.hpp"
#include "common/open.hpp"
#include "common/report.hpp"
#include "common/run.hpp"
#include "common/wall.hpp"
#include "filter.hpp"
#include "line.hpp"
#include "pcapng.hpp"
#include "settings.hpp"

namespace nm_dump {

using any_port = nm::process_ports::variant;

/// One -i: the port, and what came of it.
struct source {
    std::string name;
    any_port port;
    bool watches = false;  ///< a monitor
    std::uint32_t interface = 0;
    std::uint64_t packets = 0, bytes = 0, filtered = 0;
};

/// Takes what arrives on all sources, in one thread, and writes it down.
class dump {
public:
    dump(tool::run& run, const settings& s, std::vector<source>& sources, std::optional<pcapng_writer>& out)
        : run_(run), s_(s), sources_(sources), out_(out), filter_(s.filter) {}

    void work() {
        tool::idle rest;
        while (!run_.stopped() && !full()) {
            nm::index_t moved = 0;
            for (auto& from : sources_) moved += std::visit([&](auto& p) { return take(from, p); }, from.port);
            if (moved != 0) {
                rest.busy();
                done.set(packets_, bytes_of_all_);
                done.event(0);
                if (out_) out_->flush_if_much();
                else if (text_.size() > 64 * 1024) flush();
            } else if (rest.should_sleep()) {
                flush();
                sleep();
            }
        }
        flush();
    }
    [[nodiscard]] std::uint64_t packets() const noexcept { return packets_; }

    tool::tally done;  ///< for who reports meanwhile

private:
    static constexpr nm::index_t batch = 256;

    [[nodiscard]] bool full() const noexcept { return s_.count != 0 && packets_ >= s_.count; }

    template <class P>
    nm::index_t take(source& from, P& port) {
        const bool watches = from.watches;
        const std::uint64_t now = watches ? 0 : tool::wall_ns();
        return nm::drain(port, batch, [&](nm::frame& f) noexcept {
            const auto& meta = f.meta();
            if (f.first()) {
                if (full()) return nm::verdict::stop;
                wanted_ = filter_.passes(f.bytes());
                const bool sent = watches && (meta.flags & nm::ns_txmon) != 0;
                way_ = sent ? direction::outbound : direction::inbound;
                // A monitor says when it saw the frame, if there was room for that in the slot.
                when_ = watches && (meta.flags & nm::ns_vnet) == 0 ? meta.ptr : now != 0 ? now : tool::wall_ns();
                if (wanted_) begin(from);
                else ++from.filtered;
            }
            if (!wanted_) return nm::verdict::pass;
            add(f);
            if (f.last()) end(from);
            return nm::verdict::pass;
        });
    }

    void begin(const source& from) {
        length_ = 0;
        if (out_) out_->begin(from.interface, when_);
        else bytes_.clear();
    }
    void add(const nm::frame& f) {
        length_ += f.size();
        if (out_) out_->add(f.data(), f.size());
        else bytes_.insert(bytes_.end(), f.data(), f.data() + std::min<std::size_t>(f.size(), s_.snaplen - std::min<std::size_t>(bytes_.size(), s_.snaplen)));
    }
    void end(source& from) {
        if (out_) out_->end(way_);
        else text_ += line_of(from.name, when_, way_, bytes_, length_);
        ++from.packets;
        from.bytes += length_;
        bytes_of_all_ += length_;
        ++packets_;
    }

    void flush() {
        if (out_) out_->flush();
        if (text_.empty()) return;
        if (s_.style.json || s_.style.csv) tool::print_err(text_);
        else tool::print_out(text_);
        text_.clear();
    }

    void sleep() {
        std::vector<pollfd> fds;
        for (auto& from : sources_)
            std::visit([&](auto& p) {
                if (auto ok = p.status(); !ok) throw tool::run_error(ok.error().text);
                p.arm(nm::events::rx);
                fds.push_back({p.fd(), POLLIN, 0});
            }, from.port);
        (void)::poll(fds.data(), fds.size(), static_cast<int>(tool::nap_limit.count()));
    }

    tool::run& run_;
    const settings& s_;
    std::vector<source>& sources_;
    std::optional<pcapng_writer>& out_;
    filter filter_;
    std::string text_;
    std::vector<std::uint8_t> bytes_;
    std::uint64_t packets_ = 0, bytes_of_all_ = 0, when_ = 0;
    std::size_t length_ = 0;
    direction way_ = direction::unknown;
    bool wanted_ = false;
};

}  // namespace nm_dump
