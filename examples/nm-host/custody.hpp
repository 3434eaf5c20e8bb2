// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What the host keeps for others: bytes and descriptors under a name, for two ends that come and go (a pipe between processes).

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

#include "nm/sys/control_server.hpp"

namespace host {

class custodian {
public:
    using client = nm::sys::control_server::client;
    using message = nm::sys::control_message;
    using words = nm::sys::claim_words;

    struct item {
        std::string payload;
        std::vector<nm::base::unique_fd> fds;
        std::array<client, 2> holder{};  // 0: nobody
        std::array<bool, 2> untold{};    // who holds it reads nothing, so that it does not know whether the other end is held
    };

    explicit custodian(nm::sys::control_server& server) noexcept : server_(server) {}

    void claim(client from, message m) {
        const auto w = m.words<words>();
        const bool printable = std::none_of(m.name.begin(), m.name.end(), [](unsigned char c) { return c <= ' ' || c == 127; });  // it is told to others, a line each
        if (!w || w->end > 1 || m.name.empty() || !printable) return refuse(from, m, EINVAL, "a claim names an end, 0 or 1, of something");
        auto at = items_.find(m.name);
        const bool made = at == items_.end();
        if (made) {
            if (m.fds.empty()) return refuse(from, m, ENOENT, "nobody keeps anything as " + m.name);
            if (items_.size() == max_items || held_by(from) == max_held) return refuse(from, m, ENOSPC, "this host keeps as much as it may; close something");
            at = items_.emplace(m.name, item{m.payload.substr(sizeof *w), std::move(m.fds), {}}).first;
        }
        item& i = at->second;
        if (i.holder[w->end] != 0)
            return refuse(from, m, EBUSY, m.name + ": that end is held by process " + std::to_string(server_.pid(i.holder[w->end])) + "; close it there");
        i.holder[w->end] = from;
        server_.hold(from, true);
        // The other end knows before this one can do anything: if it closes then, it knows that its buffers are in use.
        i.untold[w->end] = false;
        tell(m.name, i, 1 - w->end);
        message answer;
        answer.type = nm::sys::control_type::answer;
        answer.sequence = m.sequence;
        answer.name = m.name;
        answer.put(words{.end = w->end, .made = made, .other = i.holder[1 - w->end] != 0});
        answer.payload += i.payload;
        std::vector<int> fds;
        for (const auto& fd : i.fds) fds.push_back(fd.get());
        server_.send(from, answer, fds);
    }

    /// Who holds an end says what is kept from now on.
    void update(client from, const message& m) {
        const auto w = m.words<words>();
        const auto at = items_.find(m.name);
        if (!w || at == items_.end() || (at->second.holder[0] != from && at->second.holder[1] != from)) return refuse(from, m, ENOENT, "you hold no end of " + m.name);
        at->second.payload = m.payload.substr(sizeof *w);
        done(from, m);
    }

    void release(client from, const message& m) {
        const auto w = m.words<words>();
        const auto at = items_.find(m.name);
        if (!w || w->end > 1 || at == items_.end() || at->second.holder[w->end] != from) return refuse(from, m, ENOENT, "you do not hold that end of " + m.name);
        let_go(at, w->end);
        server_.hold(from, held_by(from) != 0);
        done(from, m);
    }

    void gone(client who) {
        for (auto at = items_.begin(); at != items_.end();) {
            const auto next = std::next(at);
            for (unsigned end = 0; end < 2; ++end)
                if (at->second.holder[end] == who) {
                    if (let_go(at, end)) break;
                }
            at = next;
        }
    }

    /// Now and then: who did not read may do so now.
    void tick() {
        for (auto& [name, i] : items_)
            for (unsigned end = 0; end < 2; ++end)
                if (i.untold[end]) tell(name, i, end);
    }

    [[nodiscard]] bool empty() const noexcept { return items_.empty(); }
    [[nodiscard]] const std::map<std::string, item>& items() const noexcept { return items_; }
    [[nodiscard]] std::size_t held_by(client who) const noexcept {
        std::size_t n = 0;
        for (const auto& [name, i] : items_) n += static_cast<std::size_t>(i.holder[0] == who) + static_cast<std::size_t>(i.holder[1] == who);
        return n;
    }

private:
    static constexpr std::size_t max_items = 256, max_held = 64;
    using place = std::map<std::string, item>::iterator;

    // Whether that was the last end, and it is kept no more.
    bool let_go(place at, unsigned end) {
        at->second.holder[end] = 0;
        tell(at->first, at->second, 1 - end);
        if (at->second.holder[1 - end] != 0) return false;
        items_.erase(at);
        return true;
    }
    // A pipe whose end is held by a busy loop, which looks at nothing but memory, goes on however often the other end comes and goes.
    void tell(const std::string& name, item& i, unsigned end) {
        if (i.holder[end] == 0) return;
        message m;
        m.type = nm::sys::control_type::event;
        m.name = name;
        m.put(words{.end = 1 - end, .other = i.holder[1 - end] != 0});
        i.untold[end] = !server_.tell(i.holder[end], m);
    }
    void done(client to, const message& m) {
        message a;
        a.type = nm::sys::control_type::answer;
        a.sequence = m.sequence;
        server_.send(to, a);
    }
    void refuse(client to, const message& m, int status, const std::string& why) {
        message a;
        a.type = nm::sys::control_type::answer;
        a.sequence = m.sequence;
        a.status = status;
        a.payload = why.substr(0, message::max_payload);
        server_.send(to, a);
    }

    nm::sys::control_server& server_;
    std::map<std::string, item> items_;
};

}  // namespace host
