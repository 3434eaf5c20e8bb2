// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A virtio network device in memory, behind the registers of a BAR: the structures of "Virtual I/O Device (VIRTIO) Version
// 1.2" 4.1.4, and queues of both formats, one buffer at a time, so that a test says in which order the device does what, or
// lets it lie.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nm/ports/nic_device.hpp"
#include "nm/ports/virtio_net_regs.hpp"

namespace nm::test {

namespace vio = nm::virtio;

/// Addresses as the device sees them are not those of the program.
class model_iommu {
public:
    [[nodiscard]] std::uint64_t map(void* at, std::size_t size) {
        const std::uint64_t iova = next_;
        next_ += (size + 0xfffff) / 0x100000 * 0x100000;
        ranges_.push_back({iova, static_cast<std::byte*>(at), size});
        return iova;
    }
    [[nodiscard]] std::byte* at(std::uint64_t iova, std::size_t size) {
        for (const auto& r : ranges_)
            if (iova >= r.iova && iova - r.iova <= r.size && size <= r.size - (iova - r.iova)) return r.at + (iova - r.iova);
        ++faults;
        static std::array<std::byte, 65536> nowhere;
        return nowhere.data();
    }
    unsigned faults = 0;

private:
    struct range {
        std::uint64_t iova;
        std::byte* at;
        std::size_t size;
    };
    std::vector<range> ranges_;
    std::uint64_t next_ = 0x10'0000'0000;
};

struct model_part {
    std::uint64_t address;
    std::uint32_t len;
    bool write;
};
/// A buffer in virtio's sense: a chain of descriptors.
struct model_chain {
    std::uint32_t id = 0;
    std::vector<model_part> parts;
    std::uint32_t descriptors = 0;
    [[nodiscard]] std::uint32_t bytes() const {
        std::uint32_t n = 0;
        for (const auto& p : parts) n += p.len;
        return n;
    }
};

struct model_queue {
    std::uint16_t max = 256, size = 256, vector = 0xffff, enabled = 0;
    std::uint64_t desc = 0, driver = 0, device = 0;
    bool packed = false, event_idx = false;
    model_iommu* memory = nullptr;
    unsigned doorbells = 0, interrupts = 0;
    std::uint32_t seen = 0, used = 0;  // split: chains; packed: descriptors
    bool bad_chain = false;

    [[nodiscard]] std::uint16_t* word(std::uint64_t base, std::size_t index) const {
        return reinterpret_cast<std::uint16_t*>(memory->at(base + 2 * index, 2));
    }
    [[nodiscard]] vio::descriptor* entry(std::uint32_t i) const {
        return reinterpret_cast<vio::descriptor*>(memory->at(desc + 16 * std::uint64_t{i % size}, 16));
    }
    [[nodiscard]] vio::packed_descriptor* packed_entry(std::uint32_t i) const {
        return reinterpret_cast<vio::packed_descriptor*>(memory->at(desc + 16 * std::uint64_t{i % size}, 16));
    }
    [[nodiscard]] bool lap(std::uint32_t at) const { return at / size % 2 == 0; }
    [[nodiscard]] bool available(std::uint32_t at) const {
        const std::uint16_t f = __atomic_load_n(&packed_entry(at)->flags, __ATOMIC_ACQUIRE);
        return ((f & vio::packed::avail) != 0) == lap(at) && ((f & vio::packed::used) != 0) != lap(at);
    }
    [[nodiscard]] std::uint16_t waiting() const {
        if (packed) return available(seen) ? 1 : 0;
        return static_cast<std::uint16_t>(__atomic_load_n(word(driver, 1), __ATOMIC_ACQUIRE) - seen);
    }

    [[nodiscard]] std::optional<model_chain> pop() {
        if (enabled == 0 || waiting() == 0) return std::nullopt;
        model_chain c;
        if (packed) {
            for (bool more = true; more;) {
                if (c.descriptors != 0 && !available(seen)) return bad_chain = true, std::nullopt;
                const vio::packed_descriptor d = *packed_entry(seen++);
                more = (d.flags & vio::desc::next) != 0;
                c.parts.push_back({d.address, d.len, (d.flags & vio::desc::write) != 0});
                c.id = d.id;
                if (++c.descriptors > size) return bad_chain = true, std::nullopt;
            }
        } else {
            std::uint32_t i = c.id = *word(driver, 2 + seen % size);
            ++seen;
            for (bool more = true; more;) {
                if (i >= size || c.descriptors > size) return bad_chain = true, std::nullopt;
                const vio::descriptor d = *entry(i);
                more = (d.flags & vio::desc::next) != 0;
                i = d.next;
                c.parts.push_back({d.address, d.len, (d.flags & vio::desc::write) != 0});
                ++c.descriptors;
            }
        }
        listen(true);
        return c;
    }
    /// Asks for a doorbell with the next buffer, or for none.
    void listen(bool on) const {
        if (packed) {
            *word(device, 1) = on ? vio::packed::event_enable : vio::packed::event_disable;
        } else if (event_idx) {
            *word(device, 2 + 4 * std::size_t{size}) = static_cast<std::uint16_t>(on ? seen : seen - 1);
        } else {
            *word(device, 0) = on ? 0 : vio::no_notify;
        }
    }
    void push(std::uint32_t id, std::uint32_t len, std::uint32_t descriptors) {
        if (packed) {
            vio::packed_descriptor* d = packed_entry(used);
            d->id = static_cast<std::uint16_t>(id);
            d->len = len;
            __atomic_store_n(&d->flags, static_cast<std::uint16_t>(lap(used) ? vio::packed::avail | vio::packed::used : 0), __ATOMIC_RELEASE);
            used += descriptors;
            if ((*word(driver, 1) & 3) != vio::packed::event_disable) ++interrupts;
            return;
        }
        auto* e = reinterpret_cast<vio::used_element*>(memory->at(device + 4 + 8 * std::uint64_t{used % size}, 8));
        *e = {id, len};
        ++used;
        __atomic_store_n(word(device, 1), static_cast<std::uint16_t>(used), __ATOMIC_RELEASE);
        if (event_idx ? *word(driver, 2 + std::size_t{size}) == static_cast<std::uint16_t>(used - 1) : (*word(driver, 0) & 1) == 0) ++interrupts;
    }
    void push(const model_chain& c, std::uint32_t len) { push(c.id, len, c.descriptors); }

    void write(const model_chain& c, std::size_t from, const std::uint8_t* data, std::size_t n) const {
        for (const auto& p : c.parts) {
            if (from >= p.len) {
                from -= p.len;
                continue;
            }
            const std::size_t here = std::min<std::size_t>(n, p.len - from);
            std::memcpy(memory->at(p.address + from, here), data, here);
            data += here, n -= here, from = 0;
        }
    }
    [[nodiscard]] std::vector<std::uint8_t> read(const model_chain& c) const {
        std::vector<std::uint8_t> all;
        for (const auto& p : c.parts) {
            if (p.write) continue;
            const auto* at = reinterpret_cast<const std::uint8_t*>(memory->at(p.address, p.len));
            all.insert(all.end(), at, at + p.len);
        }
        return all;
    }
};

/// The device; also its bus.
class virtio_model {
public:
    static constexpr std::chrono::microseconds patience{20'000};
    static constexpr std::uint32_t isr_at = 0x1000, device_at = 0x2000, notify_at = 0x3000, bar_bytes = 0x4000;
    struct bar_type {
        virtio_model* m = nullptr;
        unsigned number = 0;
        template <class Word>
        [[nodiscard]] Word read(std::size_t at) const noexcept { return static_cast<Word>(m->load(at, sizeof(Word))); }
        template <class Word>
        void write(std::size_t at, Word value) const noexcept { m->store(at, sizeof(Word), value); }
        [[nodiscard]] std::size_t size() const noexcept { return m->bar_size; }
    };

    explicit virtio_model(std::uint64_t features, unsigned pairs = 1) : offered(features), max_pairs(pairs) {
        queues.resize(2 * pairs + 1);
        device_config = {0x52, 0x54, 0, 1, 2, 3, 1, 0, static_cast<std::uint8_t>(pairs), 0, 0xdc, 0x05};
        device_config.resize(20);
        capability(0x40, 0x50, vio::cap::common, 0, 56);
        capability(0x50, 0x60, vio::cap::isr, isr_at, 1);
        capability(0x60, 0x70, vio::cap::device, device_at, 20);
        capability(0x70, 0x00, vio::cap::notify, notify_at, 0x1000, 4);
        config[0x06] = 0x10;
        config[0x34] = 0x40;
        reset_all();
    }

    void capability(unsigned at, unsigned next, std::uint8_t type, std::uint32_t offset, std::uint32_t length, std::uint32_t multiplier = 0) {
        config[at] = 9, config[at + 1] = static_cast<std::uint8_t>(next), config[at + 2] = type == vio::cap::notify ? 20 : 16;
        config[at + 3] = type, config[at + 4] = 4;
        std::memcpy(&config[at + 8], &offset, 4);
        std::memcpy(&config[at + 12], &length, 4);
        if (type == vio::cap::notify) std::memcpy(&config[at + 16], &multiplier, 4);
    }

    // The bus.
    [[nodiscard]] static std::string name() { return "model"; }
    [[nodiscard]] static const char* mode() { return "model"; }
    [[nodiscard]] static sys::pci_ids ids() { return {0x1af4, 0x1041, 0x1af4, 0x1100, 1, 0x020000}; }
    [[nodiscard]] result<bar_type> bar(unsigned n) {
        if (n != 4) return fail(ENODEV, "no such BAR");
        return bar_type{this, n};
    }
    [[nodiscard]] std::uint32_t config_read(unsigned at, unsigned bytes) const {
        std::uint32_t v = 0;
        if (at + bytes <= config.size()) std::memcpy(&v, &config[at], bytes);
        return v;
    }
    [[nodiscard]] static result<void> bus_master(bool) { return {}; }
    [[nodiscard]] static result<void> reset() { return fail(ENOTTY, "no such reset"); }
    [[nodiscard]] static unsigned irq_count(sys::irq_kind k) { return k == sys::irq_kind::msix ? 8 : 0; }
    [[nodiscard]] static result<void> set_irqs(sys::irq_kind, std::span<const int>) { return {}; }
    void unmask_intx() noexcept {}
    [[nodiscard]] result<std::uint64_t> dma_map(void* at, std::size_t size) { return memory.map(at, size); }
    [[nodiscard]] static result<void> dma_unmap(std::uint64_t) { return {}; }

    [[nodiscard]] bool has(std::uint64_t f) const { return (driver & f) == f; }
    [[nodiscard]] model_queue& rx(unsigned pair = 0) { return queues[2 * pair]; }
    [[nodiscard]] model_queue& tx(unsigned pair = 0) { return queues[2 * pair + 1]; }

    /// A frame into the next buffer, or over several; false when there is none.
    [[nodiscard]] bool receive(const std::vector<std::uint8_t>& frame, unsigned pair = 0) {
        model_queue& q = rx(pair);
        std::vector<model_chain> chains;
        std::uint32_t room = 0;
        do {
            auto c = q.pop();
            if (!c) return false;
            room += c->bytes();
            chains.push_back(std::move(*c));
        } while (room < frame.size() + 12 && has(vio::feature::mrg_rxbuf));
        std::vector<std::uint8_t> all(12, 0);
        all[10] = static_cast<std::uint8_t>(chains.size());
        all.insert(all.end(), frame.begin(), frame.end());
        std::size_t at = 0;
        for (const auto& c : chains) {
            const std::size_t n = std::min<std::size_t>(c.bytes(), all.size() - at);
            q.write(c, 0, all.data() + at, n);
            q.push(c, static_cast<std::uint32_t>(n));
            at += n;
        }
        return true;
    }
    /// The next frame that was sent; empty: none.
    [[nodiscard]] std::vector<std::uint8_t> send(unsigned pair = 0) {
        auto c = tx(pair).pop();
        if (!c) return {};
        auto all = tx(pair).read(*c);
        tx(pair).push(*c, 0);
        if (all.size() < 12 || std::any_of(all.begin(), all.begin() + 12, [](auto b) { return b != 0; })) ++bad_headers;
        all.erase(all.begin(), all.begin() + std::min<std::ptrdiff_t>(12, static_cast<std::ptrdiff_t>(all.size())));
        return all;
    }

    std::array<std::uint8_t, 256> config{};
    std::vector<std::uint8_t> device_config;
    std::size_t bar_size = bar_bytes;
    std::uint64_t offered, driver = 0;
    unsigned max_pairs;
    std::uint8_t status = 0, isr = 0;
    std::uint64_t refuses = 0;    // feature bits that end in no FEATURES_OK
    std::uint64_t needs = 0;      // and those that must be there
    bool never_resets = false, deaf = false, no_vectors = false;
    unsigned early_doorbells = 0, bad_headers = 0, reads = 0;
    std::vector<std::vector<std::uint8_t>> commands;
    model_iommu memory;
    std::vector<model_queue> queues;

private:
    void reset_all() {
        for (auto& q : queues) {
            const std::uint16_t max = q.max;
            q = {};
            q.max = q.size = max;
            q.memory = &memory;
        }
        driver = 0;
        status = 0;
        config_vector_ = 0xffff;
    }
    [[nodiscard]] std::uint64_t load(std::size_t at, std::size_t bytes) {
        ++reads;
        if (at == isr_at) return std::exchange(isr, std::uint8_t{0});
        if (at >= device_at && at + bytes <= device_at + device_config.size()) {
            std::uint64_t v = 0;
            std::memcpy(&v, &device_config[at - device_at], bytes);
            return v;
        }
        const bool there = select_ < (has(vio::feature::mq) ? queues.size() : 3);  // as QEMU has it
        switch (at) {
            case 4: return feature_half_ < 2 ? static_cast<std::uint32_t>(offered >> 32 * feature_half_) : 0;
            case 16: return config_vector_;
            case 18: return has(vio::feature::mq) ? queues.size() : 3;
            case 20: return status;
            case 24: return there ? queues[select_].size : 0;
            case 26: return there ? queues[select_].vector : 0xffffU;
            case 28: return there ? queues[select_].enabled : 0;
            case 30: return select_;
            default: return 0;
        }
    }
    void store(std::size_t at, std::size_t bytes, std::uint64_t v) {
        if (at >= notify_at && bytes == 2) return notified((at - notify_at) / 4, v);
        if (at >= 32 && at < 56 && select_ < queues.size()) {
            model_queue& q = queues[select_];
            std::uint64_t& a = at < 40 ? q.desc : at < 48 ? q.driver : q.device;
            a = (at & 4) != 0 ? (a & 0xffffffffU) | v << 32 : (a & ~std::uint64_t{0xffffffff}) | v;
            return;
        }
        switch (at) {
            case 0: feature_half_ = static_cast<unsigned>(v); break;
            case 8: driver_half_ = static_cast<unsigned>(v); break;
            case 12: driver = driver_half_ == 0 ? (driver & ~std::uint64_t{0xffffffff}) | v : (driver & 0xffffffffU) | v << 32; break;
            case 16: config_vector_ = no_vectors ? 0xffff : static_cast<std::uint16_t>(v); break;
            case 20:
                if (v == 0 && never_resets) break;
                if (v == 0) reset_all();
                else status = static_cast<std::uint8_t>(v);
                if ((v & 8) != 0 && ((driver & ~offered) != 0 || (driver & refuses) != 0 || (driver & needs) != needs)) status &= 0xf7;
                break;
            case 22: select_ = static_cast<std::uint16_t>(v); break;
            case 24: queues[select_].size = static_cast<std::uint16_t>(v); break;
            case 26: queues[select_].vector = no_vectors ? 0xffff : static_cast<std::uint16_t>(v); break;
            case 28:
                queues[select_].enabled = 1;
                queues[select_].packed = has(vio::feature::ring_packed);
                queues[select_].event_idx = has(vio::feature::event_idx);
                break;
            default: break;
        }
    }
    void notified(std::size_t queue, std::uint64_t value) {
        if (queue != value || queue >= queues.size()) return;
        ++queues[queue].doorbells;
        if ((status & 4) == 0) ++early_doorbells;
        if (deaf || queue + 1 != queues.size() || !has(vio::feature::ctrl_vq)) return;
        while (auto c = queues[queue].pop()) {
            commands.push_back(queues[queue].read(*c));
            for (const auto& p : c->parts)
                if (p.write) *memory.at(p.address, 1) = std::byte{0};
            queues[queue].push(*c, 1);
        }
    }

    unsigned feature_half_ = 0, driver_half_ = 0;
    std::uint16_t select_ = 0, config_vector_ = 0xffff;
};

}  // namespace nm::test
