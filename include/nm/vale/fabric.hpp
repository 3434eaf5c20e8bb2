// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a switch has, whatever its lookup: the places where ports are, and who comes and goes.

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nm/inbox.hpp"
#include "nm/result.hpp"
#include "nm/vale/source.hpp"

namespace nm::vale {

/// One place on a switch. Made when first used and kept until the switch goes, so that a sender who is late finds a closed
/// inbox, never freed memory.
struct bay {
    std::atomic<std::uint32_t> id{0};  ///< which port is here: another number each time, 0 when empty
    std::atomic<std::uint32_t> buf_size{0};
    std::atomic<std::uint8_t> rings{1};  ///< rx rings
    std::atomic<header> head{header::none};
    std::array<inbox, max_rings> in;

    // Under the switch's lock.
    std::string name;
    std::vector<source*> sources;
};

/// A receive ring of a port that is being attached.
struct receiver {
    ring* r;
    index_t num_slots;
    ring_link* link;
    eventfd_notifier wake;
};

/// Which place a port has, and which of those who have had it.
struct place {
    port_number number = 0;
    std::uint32_t id = 0;
};

/// What one port did on its switch.
struct port_stats {
    std::string name;
    port_number number = 0;
    counters tx;  ///< accepted from the port, and what of it was dropped before it got anywhere, in its ring or on the switch
    counters rx;  ///< put into the port's receive rings, and dropped there
    std::uint64_t floods = 0;    ///< frames of its that went to several ports
    std::uint64_t replicas = 0;  ///< copies made of those, and segments of its large frames, beyond the first of each
};

/// Sums over a switch, ports that have left included: accepted + replicas == delivered + dropped, when nobody is in the
/// middle of a batch. A frame that becomes several is counted as accepted once, and once as a replica for each one beyond
/// the first: k copies of a flooded frame are k - 1 replicas; n segments of a large frame for a port without headers are
/// n - 1 more, from when it is cut on. What is not cut at all (no room, a bad header) is one drop.
struct switch_stats {
    std::uint64_t accepted = 0, replicas = 0, delivered = 0;
    std::array<std::uint64_t, causes> drops{};
    [[nodiscard]] std::uint64_t dropped() const noexcept {
        std::uint64_t sum = 0;
        for (const auto d : drops) sum += d;
        return sum;
    }
    [[nodiscard]] bool conserved() const noexcept { return accepted + replicas == delivered + dropped(); }
};

class switch_core {
public:
    switch_core(const switch_core&) = delete;
    switch_core& operator=(const switch_core&) = delete;
    virtual ~switch_core() = default;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    /// Takes a place for the port `name` whose frames come from `sources` and go to `receivers`; both must stay until
    /// detach() of what is returned.
    [[nodiscard]] result<place> attach(const std::string& name, std::span<source* const> sources,
                                       std::span<const receiver> receivers, const region& m, header head) {
        const std::lock_guard guard(mutex_);
        if (find(name)) return fail(EEXIST, name_ + ":" + name + " exists already");
        index_t n = 0;
        while (n < max_ports && live_.test(static_cast<port_number>(n))) ++n;
        if (n == max_ports) return fail(ENOSPC, name_ + " has 254 ports, and there is no place for " + name);
        const auto number = static_cast<port_number>(n);
        if (!bays_[n].load(std::memory_order_relaxed)) {
            owned_.push_back(std::make_unique<bay>());
            bays_[n].store(owned_.back().get(), std::memory_order_release);
        }
        bay& b = *bays_[n].load(std::memory_order_relaxed);
        b.name = name;
        b.sources.assign(sources.begin(), sources.end());
        b.buf_size = m.buf_size();
        b.rings = static_cast<std::uint8_t>(receivers.size());
        b.head = head;
        if (++last_id_ == ~0U) last_id_ = 1;
        const std::uint32_t id = last_id_;
        for (std::size_t i = 0; i < receivers.size(); ++i) {
            const receiver& r = receivers[i];
            b.in[i].open(id, r.r, r.num_slots, m, *r.link, r.wake, asymmetric_);
        }
        b.id.store(id, std::memory_order_release);
        attached(number, name);
        for (source* s : sources) join(*s, number);
        live_.add(number);
        return place{number, id};
    }

    /// Takes a port off the switch, during traffic or not. When it returns no frame of its is on the way and none will
    /// come; what its handles send then is discarded.
    void detach(const place& p) noexcept {
        const std::lock_guard guard(mutex_);
        if (is_here(p)) leave(p.number);
    }
    [[nodiscard]] result<void> detach(const std::string& name) {
        const std::lock_guard guard(mutex_);
        const auto n = find(name);
        if (!n) return fail(ENOENT, "there is no port " + name_ + ":" + name);
        leave(*n);
        return {};
    }

    void set_header(const place& p, header head) noexcept {
        const std::lock_guard guard(mutex_);
        if (is_here(p)) bays_[p.number].load(std::memory_order_relaxed)->head = head;
    }
    /// What was dropped at a port's receive ring, or put into it.
    [[nodiscard]] counters received(const place& p, index_t ring) const noexcept { return at(p.number)->in[ring].total(p.id); }

    [[nodiscard]] std::vector<port_stats> ports() {
        const std::lock_guard guard(mutex_);
        std::vector<port_stats> all;
        for (index_t n = 0; n < max_ports; ++n)
            if (live_.test(static_cast<port_number>(n))) all.push_back(stats_of(static_cast<port_number>(n)));
        return all;
    }
    [[nodiscard]] switch_stats stats() {
        const std::lock_guard guard(mutex_);
        switch_stats sum = gone_;
        for (index_t n = 0; n < max_ports; ++n)
            if (live_.test(static_cast<port_number>(n))) add(sum, static_cast<port_number>(n));
        return sum;
    }

    // For the loops.
    [[nodiscard]] [[gnu::always_inline]] const port_set& live() const noexcept { return live_; }
    [[nodiscard]] [[gnu::always_inline]] bay* at(port_number p) const noexcept {
        return bays_[p].load(std::memory_order_acquire);
    }

protected:
    explicit switch_core(std::string name) : name_(std::move(name)), asymmetric_(base::membarrier_register()) {}

    // The switch with its lookup: tells it who is there, and gives a ring what it needs.
    virtual void attached(port_number number, const std::string& name) = 0;
    virtual void detached(port_number number) noexcept = 0;
    virtual void equip(source& s) = 0;

private:
    [[nodiscard]] bool is_here(const place& p) const noexcept {
        return live_.test(p.number) && bays_[p.number].load(std::memory_order_relaxed)->id == p.id;
    }
    [[nodiscard]] std::optional<port_number> find(const std::string& name) const {
        for (index_t n = 0; n < max_ports; ++n)
            if (live_.test(static_cast<port_number>(n)) && bays_[n].load(std::memory_order_relaxed)->name == name)
                return static_cast<port_number>(n);
        return std::nullopt;
    }

    void join(source& s, port_number number) {
        s.sw = this;
        s.port = number;
        s.asymmetric = asymmetric_;
        s.storm_left = s.storm.burst;
        s.storm_seen_ns = system_clock::now_ns();
        equip(s);
        s.attached.store(true, std::memory_order_release);
    }

    void leave(port_number number) noexcept {
        if (!live_.test(number)) return;
        bay& b = *bays_[number].load(std::memory_order_relaxed);
        live_.remove(number);
        for (source* s : b.sources) s->leave();
        for (index_t i = 0; i < b.rings; ++i) b.in[i].close();
        b.id = 0;
        detached(number);
        add(gone_, number);
        b.sources.clear();
        b.name.clear();
    }

    [[nodiscard]] port_stats stats_of(port_number number) const {
        bay& b = *bays_[number].load(std::memory_order_relaxed);
        port_stats s;
        s.name = b.name;
        s.number = number;
        for (const source* from : b.sources) {
            s.tx += from->stats->now();
            s.floods += from->floods;
            s.replicas += from->replicas;
        }
        for (index_t i = 0; i < b.rings; ++i) s.rx += b.in[i].total();
        return s;
    }
    void add(switch_stats& sum, port_number number) const noexcept {
        bay& b = *bays_[number].load(std::memory_order_relaxed);
        counters tx, rx;
        for (const source* from : b.sources) {
            tx += from->forwarded.now();
            sum.replicas += from->replicas;
        }
        for (index_t i = 0; i < b.rings; ++i) rx += b.in[i].total();
        sum.accepted += tx.frames;
        sum.delivered += rx.frames;
        for (std::size_t i = 0; i < causes; ++i) sum.drops[i] += tx.drops[i] + rx.drops[i];
    }

    std::string name_;
    bool asymmetric_;
    std::mutex mutex_;  // who comes and goes; senders never take it
    port_set live_;
    std::array<std::atomic<bay*>, max_ports> bays_{};
    std::vector<std::unique_ptr<bay>> owned_;
    std::uint32_t last_id_ = 0;
    switch_stats gone_;  // of ports that have left
};

}  // namespace nm::vale
