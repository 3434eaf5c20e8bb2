// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "nm/port_options.hpp"
#include "nm/region.hpp"

namespace nm {

struct context_options {
    std::uint32_t shared_bufs = 16384;  ///< buffers of a region made for a memory id (`@N`)
    std::uint32_t buf_size = preferred_stride;
    backing where = backing::heap;
};

/// Owns the named things of a program: open ports by name, so that two ends of a pipe meet and two opens of a port
/// share it; regions by memory id. There is no other shared state in nm. Opening from several threads is allowed. A
/// port keeps what it needs alive and may outlive its context.
class context {
public:
    explicit context(context_options o = {}) : options_(o) {}
    context(const context&) = delete;
    context& operator=(const context&) = delete;

    [[nodiscard]] const context_options& options() const noexcept { return options_; }

    /// The region of memory id `id`, made when first asked for, so that it suits who asks, and gone with its last port.
    [[nodiscard]] result<region_ptr> shared_region(unsigned id, const memory_constraints& c = {}) {
        const std::string key = "region:" + std::to_string(id);
        if (auto r = find<region>(key)) return r;
        region_options o;
        o.bufs = options_.shared_bufs;
        o.buf_size = c.suited(options_.buf_size);
        o.meta_bytes = std::size_t{4} << 20;
        o.where = options_.where;
        auto made = region::create(o);
        if (made) keep(key, *made);
        return made;
    }

    /// The memory for a new port: what the name or the options ask for, else a region of its own made by `make`.
    template <class Make>
    [[nodiscard]] result<region_ptr> memory_for(const port_spec& spec, const open_options& o, Make&& make, const memory_constraints& c = {}) {
        if (o.memory) return o.memory;
        if (!spec.share.empty()) {
            auto with = parse_port(spec.share);
            if (!with) return forward_error(with);
            if (auto r = region_of(with->identity())) return r;
            return fail(ENOENT, "@share=" + spec.share + ": that port is not open in this program");
        }
        if (const auto id = spec.mem_id ? spec.mem_id : o.mem_id) return shared_region(*id, c);
        return make();
    }

    /// Remembers which region an open port lives in, for pipes of that port and `@share=`.
    void set_region_of(const std::string& identity, const region_ptr& r) { keep("memory:" + identity, r); }
    [[nodiscard]] region_ptr region_of(const std::string& identity) { return find<region>("memory:" + identity); }

    /// Named state, held weakly: it lives as long as some port does. One key always means one type.
    template <class T>
    [[nodiscard]] std::shared_ptr<T> find(const std::string& key) {
        const std::lock_guard guard(mutex_);
        const auto it = named_.find(key);
        return it == named_.end() ? nullptr : std::static_pointer_cast<T>(it->second.lock());
    }
    template <class T>
    void keep(const std::string& key, const std::shared_ptr<T>& value) {
        const std::lock_guard guard(mutex_);
        std::erase_if(named_, [](const auto& e) { return e.second.expired(); });
        named_[key] = value;
    }

    /// Held by an open from its look-up to its keep, so that two threads make one port, not two.
    [[nodiscard]] std::unique_lock<std::mutex> opening() { return std::unique_lock(opening_); }

private:
    context_options options_;
    std::mutex opening_;
    std::mutex mutex_;
    std::map<std::string, std::weak_ptr<void>> named_;
};

}  // namespace nm
