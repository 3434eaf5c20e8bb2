// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <concepts>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nm/context.hpp"
#include "nm/port_memory.hpp"
#include "nm/sync.hpp"
#include "nm/tap_point.hpp"

namespace nm {

/// Some of a port's rings of one kind, in both directions.
struct ring_range {
    index_t tx_first = 0, tx_count = 0, rx_first = 0, rx_count = 0;

    ring_range() = default;
    ring_range(std::size_t tx_rings, std::size_t rx_rings) noexcept
        : tx_count(static_cast<index_t>(tx_rings)), rx_count(static_cast<index_t>(rx_rings)) {}

    /// netmap: the direction that has fewer rings uses its first.
    void only(index_t ring) noexcept {
        tx_first = ring < tx_count ? ring : 0;
        rx_first = ring < rx_count ? ring : 0;
        tx_count = rx_count = 1;
    }
    [[nodiscard]] bool meets(const ring_range& o) const noexcept {
        return meet(tx_first, tx_count, o.tx_first, o.tx_count) || meet(rx_first, rx_count, o.rx_first, o.rx_count);
    }
    [[nodiscard]] bool empty() const noexcept { return tx_count + rx_count == 0; }

private:
    [[nodiscard]] static bool meet(index_t a, index_t n, index_t b, index_t m) noexcept {
        return n != 0 && m != 0 && a < b + m && b < a + n;
    }
};

[[nodiscard]] constexpr bool wants_own(const port_spec& s) noexcept {
    return s.mode != ring_mode::host && s.mode != ring_mode::one_host;
}
[[nodiscard]] constexpr bool wants_host(const port_spec& s) noexcept {
    return s.mode != ring_mode::all && s.mode != ring_mode::one;
}

/// The rings of a port that one handle is for: its own, then host rings.
struct ring_view : ring_range {
    ring_range host;

    ring_view() = default;
    ring_view(const port_spec& spec, const ring_range& own_rings, const ring_range& host_rings) noexcept {
        if (wants_own(spec)) static_cast<ring_range&>(*this) = own_rings;
        if (wants_host(spec)) host = host_rings;
        if (spec.mode == ring_mode::one) only(spec.ring);
        if (spec.mode == ring_mode::one_host) host.only(spec.ring);
        if (spec.rx_only) tx_count = host.tx_count = 0;
        if (spec.tx_only) rx_count = host.rx_count = 0;
    }
    [[nodiscard]] bool meets(const ring_view& o) const noexcept { return ring_range::meets(o) || host.meets(o.host); }
};

/// Which handles are open, so that /x can keep others from its rings. netmap: a ring, not a port, is held exclusively.
class ring_claims {
public:
    void add(const ring_view* v, bool exclusive) {
        const std::lock_guard guard(mutex_);
        open_.push_back({v, *v, exclusive});
    }
    void move(const ring_view* from, const ring_view* to) noexcept {
        const std::lock_guard guard(mutex_);
        for (auto& c : open_)
            if (c.holder == from) c.holder = to;
    }
    void drop(const ring_view* v) noexcept {
        const std::lock_guard guard(mutex_);
        std::erase_if(open_, [v](const claim& c) { return c.holder == v; });
    }
    /// 0, or whether one that is open forbids (1) or whether `exclusive` cannot be had (2).
    [[nodiscard]] int conflict(const ring_view& v, bool exclusive) const noexcept {
        const std::lock_guard guard(mutex_);
        for (const auto& c : open_) {
            if (!c.rings.meets(v)) continue;
            if (c.exclusive) return 1;
            if (exclusive) return 2;
        }
        return 0;
    }

private:
    struct claim {
        const ring_view* holder;
        ring_view rings;
        bool exclusive;
    };
    mutable std::mutex mutex_;
    std::vector<claim> open_;
};

/// What an open port is, behind its handles: rings over one region. Backends derive from it and add fd(), arm() and
/// status().
template <class TxBackend, class RxBackend>
struct port_state {
    using tx_ring_type = tx_ring<TxBackend>;
    using rx_ring_type = rx_ring<RxBackend>;

    port_info info;
    region_ptr memory;
    port_memory rings;
    std::vector<tx_ring_type> tx;
    std::vector<rx_ring_type> rx;
    ring_claims claims;
    tap_owner taps;

    [[nodiscard]] ring_view view(const port_spec& spec) const noexcept {
        return {spec, {tx.size(), rx.size()}, {}};
    }
    void opened(const ring_view&) noexcept { taps.opened(); }
    void closed(const ring_view&) noexcept { taps.closed(); }
    /// Lets monitors be opened on this port, under the name that it has in `info`. When its rings have been made.
    void offer_taps(context& ctx) { offer(ctx, taps, tx, rx, info); }

protected:
    void offer(context& ctx, tap_owner& to, std::vector<tx_ring_type>& senders, std::vector<rx_ring_type>& receivers,
               const port_info& as) {
        if (to) return;
        std::vector<ring_base*> t, r;
        for (auto& ring : senders) t.push_back(&ring);
        for (auto& ring : receivers) r.push_back(&ring);
        auto point = std::make_shared<tap_point>(std::move(t), std::move(r), as, memory);
        ctx.keep("tap:" + as.name, point);
        to.set(std::move(point));
    }
};

/// The same for a port with host rings. They are apart since either part may be opened first.
template <class TxBackend, class RxBackend>
struct host_port_state : port_state<TxBackend, RxBackend> {
    static constexpr bool has_host_rings = true;
    std::vector<tx_ring<TxBackend>> host_tx;
    std::vector<rx_ring<RxBackend>> host_rx;
    tap_owner host_taps;

    [[nodiscard]] ring_view view(const port_spec& spec) const noexcept {
        return {spec, {this->tx.size(), this->rx.size()}, {host_tx.size(), host_rx.size()}};
    }
    void opened(const ring_view& v) noexcept {
        if (!v.ring_range::empty()) this->taps.opened();
        if (!v.host.empty()) host_taps.opened();
    }
    void closed(const ring_view& v) noexcept {
        if (!v.ring_range::empty()) this->taps.closed();
        if (!v.host.empty()) host_taps.closed();
    }
    /// Whichever parts are open.
    void offer_taps(context& ctx, const port_info& host_info) {
        if (!this->tx.empty()) port_state<TxBackend, RxBackend>::offer_taps(ctx);
        if (!host_tx.empty()) this->offer(ctx, host_taps, host_tx, host_rx, host_info);
    }
};

/// A port in the user's hand: movable, closes on destruction. Several handles may share one port (a second open in the
/// same program); who uses which ring when is then for the user to order, as netmap(4) says.
template <class State>
class port_handle {
public:
    using tx_ring_type = typename State::tx_ring_type;
    using rx_ring_type = typename State::rx_ring_type;

    port_handle(port_handle&& o) noexcept { take(o); }
    port_handle& operator=(port_handle&& o) noexcept {
        if (this != &o) {
            close();
            take(o);
        }
        return *this;
    }
    port_handle(const port_handle&) = delete;
    port_handle& operator=(const port_handle&) = delete;
    ~port_handle() { close(); }

    /// The port's own rings come first, then host rings.
    [[nodiscard]] index_t num_tx_rings() const noexcept { return view_.tx_count + view_.host.tx_count; }
    [[nodiscard]] index_t num_rx_rings() const noexcept { return view_.rx_count + view_.host.rx_count; }
    [[nodiscard]] tx_ring_type& tx(index_t i = 0) noexcept {
        if constexpr (requires { State::has_host_rings; })
            if (i >= view_.tx_count) return state_->host_tx[view_.host.tx_first + i - view_.tx_count];
        return state_->tx[view_.tx_first + i];
    }
    [[nodiscard]] rx_ring_type& rx(index_t i = 0) noexcept {
        if constexpr (requires { State::has_host_rings; })
            if (i >= view_.rx_count) return state_->host_rx[view_.host.rx_first + i - view_.rx_count];
        return state_->rx[view_.rx_first + i];
    }
    [[nodiscard]] const ring_view& view() const noexcept { return view_; }

    [[nodiscard]] nm::region& region() const noexcept { return *state_->memory; }
    [[nodiscard]] const region_ptr& memory() const noexcept { return state_->memory; }
    /// netmap's netmap_if of this port; all offsets in it are relative to it.
    [[nodiscard]] interface* nifp() const noexcept { return state_->rings.nifp(); }
    [[nodiscard]] const std::string& name() const noexcept { return info().name; }
    [[nodiscard]] const std::string& mode() const noexcept { return info().mode; }
    [[nodiscard]] const port_info& info() const noexcept {
        if constexpr (requires { state_->info_of(view_); }) return state_->info_of(view_);
        else return state_->info;
    }
    [[nodiscard]] bool no_tx_poll() const noexcept { return no_tx_poll_; }
    [[nodiscard]] bool do_rx_poll() const noexcept { return do_rx_poll_; }

    /// Sums over this handle's rings.
    [[nodiscard]] counters tx_stats() noexcept {
        counters sum;
        for (index_t i = 0; i < num_tx_rings(); ++i) sum += tx(i).stats();
        return sum;
    }
    [[nodiscard]] counters rx_stats() noexcept {
        counters sum;
        for (index_t i = 0; i < num_rx_rings(); ++i) sum += rx(i).stats();
        return sum;
    }

    /// Readable (POLLIN) when there is work in a direction that was armed; never anything else. For poll, select, epoll
    /// level or edge, io_uring, asio.
    [[nodiscard]] int fd() const noexcept {
        if constexpr (requires { state_->fd(view_); }) return state_->fd(view_);
        else return state_->fd();
    }
    /// Before sleeping on fd(): which directions should wake. Looks again, and leaves fd() readable when there is work
    /// already. A sync disarms.
    void arm(events e) noexcept {
        if constexpr (requires { state_->arm(e, view_); }) state_->arm(e, view_);
        else state_->arm(e);
    }
    /// An error when the port can do no more: link gone, peer dead.
    [[nodiscard]] result<void> status() {
        if constexpr (requires { state_->status(view_); }) return state_->status(view_);
        else return state_->status();
    }

    void close() noexcept {
        if (!state_) return;
        state_->claims.drop(&view_);
        state_->closed(view_);
        state_.reset();
        view_ = {};
    }
    explicit operator bool() const noexcept { return state_ != nullptr; }
    [[nodiscard]] State& state() noexcept { return *state_; }

protected:
    port_handle(std::shared_ptr<State> state, const port_spec& spec, const open_options& o)
        : state_(std::move(state)), view_(state_->view(spec)), no_tx_poll_(o.no_tx_poll), do_rx_poll_(o.do_rx_poll) {
        state_->claims.add(&view_, spec.exclusive || o.exclusive);
        state_->opened(view_);
    }

    /// Whether one more open of an open port is allowed.
    [[nodiscard]] static result<void> may_share(const State& s, const port_spec& spec, const open_options& o) {
        switch (s.claims.conflict(s.view(spec), spec.exclusive || o.exclusive)) {
            case 0: return {};
            case 1: return fail(EBUSY, s.info.name + " is open with /x: nobody else may open those rings until it is closed");
            default: return fail(EBUSY, s.info.name + " is open already; /x wants its rings alone");
        }
    }
    [[nodiscard]] static result<void> has_ring(const State& s, const port_spec& spec) {
        const auto n = std::max(s.tx.size(), s.rx.size());
        if (spec.mode == ring_mode::one && spec.ring >= n)
            return fail(EINVAL, s.info.name + " has " + std::to_string(n) + " ring(s): there is no ring " +
                                    std::to_string(spec.ring));
        return {};
    }

private:
    void take(port_handle& o) noexcept {
        state_ = std::move(o.state_);
        view_ = std::exchange(o.view_, {});
        no_tx_poll_ = o.no_tx_poll_;
        do_rx_poll_ = o.do_rx_poll_;
        if (state_) state_->claims.move(&o.view_, &view_);
    }

    std::shared_ptr<State> state_;
    ring_view view_;
    bool no_tx_poll_ = false, do_rx_poll_ = false;
};

/// A type that a name can be opened as.
template <class P>
concept openable = requires(context& ctx, const port_spec& spec, const open_options& o) {
    { P::matches(spec) } -> std::same_as<bool>;
    { P::open(ctx, spec, o) } -> std::same_as<result<P>>;
    { P::query(ctx, spec, o) } -> std::same_as<result<port_info>>;
    { P::kind_name } -> std::convertible_to<const char*>;
};

namespace detail {
[[nodiscard]] inline result<void> no_backend(std::string_view name, const port_spec& spec, const std::string& kinds) {
    const char* hint = spec.kind == port_kind::pci ? " (`nmctl bind` shows which NICs there are, docs/nics.md which of them nm drives)"
                       : spec.kind == port_kind::netdev ? " (that is a kernel interface: nm::netdev; `nmctl bind` has the PCI address of its NIC)"
                                                        : "";
    return fail(ENXIO, "\"" + std::string(name) + "\" is no port that this program can open; it knows " + kinds + hint);
}

// What the name says wins over what the program asked for.
[[nodiscard]] inline open_options merged(const port_spec& s, open_options o) {
    if (s.tx_rings) o.tx_rings = s.tx_rings;
    if (s.rx_rings) o.rx_rings = s.rx_rings;
    if (s.tx_slots) o.tx_slots = s.tx_slots;
    if (s.rx_slots) o.rx_slots = s.rx_slots;
    if (s.mtu) o.mtu = *s.mtu;
    if (s.mitigation_us) o.mitigation_ns = *s.mitigation_us * 1000U;
    return o;
}
}  // namespace detail

/// Opens a port of a type known at compile time. An error says what to do.
template <openable P>
[[nodiscard]] result<P> try_open(context& ctx, std::string_view name, const open_options& o = {}) {
    auto spec = parse_port(name);
    if (!spec) return forward_error(spec);
    if (!P::matches(*spec)) {
        auto e = detail::no_backend(name, *spec, P::kind_name);
        return forward_error(e);
    }
    const auto guard = ctx.opening();
    return P::open(ctx, *spec, detail::merged(*spec, o));
}

/// What the port would be, without opening it.
template <openable P>
[[nodiscard]] result<port_info> query(context& ctx, std::string_view name, const open_options& o = {}) {
    auto spec = parse_port(name);
    if (!spec) return forward_error(spec);
    if (!P::matches(*spec)) {
        auto e = detail::no_backend(name, *spec, P::kind_name);
        return forward_error(e);
    }
    return P::query(ctx, *spec, detail::merged(*spec, o));
}

#if defined(__cpp_exceptions)
template <class T>
[[nodiscard]] T value_or_throw(result<T> r) {
    if (!r) throw std::system_error(r.error().code, r.error().text);
    return std::move(*r);
}

/// try_open for who prefers exceptions: std::system_error with errno's code and the sentence.
template <class P>
[[nodiscard]] auto open(context& ctx, std::string_view name, const open_options& o = {}) {
    return value_or_throw(try_open<P>(ctx, name, o));
}
#endif

}  // namespace nm
