// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A vmxnet3 in memory, which does what QEMU 7.2's does, or lies.

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/ports/nic_device.hpp"
#include "nm/ports/vmxnet3_regs.hpp"

namespace nm::test {

using bytes = std::vector<std::uint8_t>;

class vmxnet3_model_bus;

class vmxnet3_model {
public:
    using abi = vmxnet3_abi;
    static constexpr unsigned max_queues = abi::max_queues;

    struct bar_type {
        using bus = vmxnet3_model_bus;
        vmxnet3_model* model = nullptr;
        unsigned index = 0;
        template <class Word>
        [[nodiscard]] Word read(std::size_t at) const noexcept {
            ++model->reads;
            return static_cast<Word>(index == 0 ? model->read_data(at) : model->read_control(at));
        }
        template <class Word>
        void write(std::size_t at, Word value) const noexcept {
            ++model->writes;
            if (index == 0) model->write_data(at, static_cast<std::uint32_t>(value));
            else model->write_control(at, static_cast<std::uint32_t>(value));
        }
        [[nodiscard]] std::size_t size() const noexcept { return model->bar_size; }
    };

    // The bus
    [[nodiscard]] std::string name() const { return "0000:00:05.0"; }
    [[nodiscard]] const char* mode() const noexcept { return "model"; }
    [[nodiscard]] sys::pci_ids ids() const noexcept { return {0x15ad, 0x07b0, 0x15ad, 0x07b0, 1, 0x020000}; }
    [[nodiscard]] result<bar_type> bar(unsigned i) {
        if (i > 1) return fail(ENODEV, "no such BAR");
        return bar_type{this, i};
    }
    [[nodiscard]] std::uint32_t config_read(unsigned, unsigned) const noexcept { return 0; }
    [[nodiscard]] result<void> bus_master(bool on) {
        master = on;
        return {};
    }
    [[nodiscard]] result<void> reset() { return fail(ENOTTY, "none"); }
    [[nodiscard]] unsigned irq_count(sys::irq_kind k) const noexcept { return k == sys::irq_kind::msix ? 25 : 1; }
    [[nodiscard]] result<void> set_irqs(sys::irq_kind, std::span<const int> fds) {
        eventfds.assign(fds.begin(), fds.end());
        return {};
    }
    void unmask_intx() noexcept {}
    [[nodiscard]] result<std::uint64_t> dma_map(void* memory, std::size_t size) {
        const std::uint64_t iova = next_iova;
        next_iova += (size + 0x1fffff) & ~std::uint64_t{0x1fffff};
        mapped.push_back({iova, static_cast<std::byte*>(memory), size});
        return iova;
    }
    [[nodiscard]] result<void> dma_unmap(std::uint64_t iova) {
        std::erase_if(mapped, [&](const range& r) { return r.iova == iova; });
        return {};
    }

    // The wire
    std::deque<bytes> sent;
    std::array<unsigned, max_queues> sent_by{};
    /// What QEMU does with a frame that arrives; on queue q (QEMU knows only 0). False: lost.
    bool receive(const bytes& frame, unsigned q = 0) {
        if (!active) return false;
        rx& r = rx_[q];
        std::size_t at = 0;
        unsigned parts = 0;
        abi::completion* last = nullptr;
        const unsigned most = std::max<unsigned>(1, config->misc.max_rx_parts);
        while (at < frame.size() && parts < most) {
            const bool head = parts == 0;
            abi::descriptor d{};
            unsigned which = 0;
            index_t index = 0;
            if (!take(r, head, d, which, index)) break;
            const std::size_t len = std::min<std::size_t>(frame.size() - at, d.word2 & abi::len_bits);
            if (std::byte* to = dma(d.address, len); to != nullptr) std::memcpy(to, frame.data() + at, len);
            at += len;
            auto* c = complete(r.done);
            c->word0 = index | (head ? abi::comp_sop : 0) | (q + which * config->misc.rx_queues) << 16;
            c->word2 = static_cast<std::uint32_t>(len);
            last = c;
            ++parts;
        }
        if (last != nullptr) {
            last->word0 |= abi::comp_eop;
            if (at != frame.size()) last->word2 |= abi::comp_err;
        }
        interrupt(r.vector);
        if (at == frame.size()) r.frames += 1, r.octets += frame.size();
        else if (parts == most) ++r.errors;
        else ++r.out_of_buffers;
        return at == frame.size();
    }
    void set_link(bool up) {
        link_up = up;
        if (shared_at != 0 || master) {
            if (auto* s = reinterpret_cast<abi::shared*>(dma(shared_at, sizeof(abi::shared))); s != nullptr) s->ecr |= abi::event_link;
        }
        if (active) interrupt(config->intr.event_vector);
    }

    // What it saw
    std::size_t reads = 0, writes = 0, doorbells_tx = 0, doorbells_rx = 0, faults = 0, wrong = 0;
    std::uint32_t rxprod = 0;
    bool active = false, master = false;
    std::vector<std::uint32_t> commands;
    std::array<bool, abi::max_vectors> masked{}, pending{};
    std::array<unsigned, abi::max_vectors> interrupts{};
    bool asserted = false;  // INTx
    abi::shared* config = nullptr;
    std::array<std::uint8_t, 6> mac{0x52, 0x54, 0, 0x12, 0x34, 0x56}, perm_mac = mac;
    std::uint32_t ecr_acked = 0;

    // How it behaves
    std::size_t bar_size = 4096;
    std::uint32_t revisions = 1;
    bool refuses = false, intx = false, holds_tx = false, link_up = true;
    std::uint32_t mask_mode = 0;

    // For lies: a completion as the device would write it next.
    void lie_tx(unsigned q, std::uint32_t word0) { complete(tx_[q].done)->word0 = word0; }
    void lie_rx(unsigned q, std::uint32_t word0, std::uint32_t word2) {
        auto* c = complete(rx_[q].done);
        c->word0 = word0;
        c->word2 = word2;
    }
    /// All generation bits as they would be next.
    void fill_rx(unsigned q, std::uint32_t word0) {
        for (index_t i = 0; i < rx_[q].done.size; ++i) lie_rx(q, word0, 60);
    }
    void fill_tx(unsigned q, std::uint32_t word0) {
        for (index_t i = 0; i < tx_[q].done.size; ++i) lie_tx(q, word0);
    }
    /// Descriptors that the device could take now.
    [[nodiscard]] index_t rx_descriptors(unsigned q) {
        index_t n = 0;
        for (ring r = rx_[q].rings[0]; n < r.size && shown(r, abi::rx_gen); ++n) advance(r);
        return n;
    }
    [[nodiscard]] index_t tx_descriptors(unsigned q) {
        index_t n = 0;
        for (ring r = tx_[q].ring_; n < r.size && shown(r, abi::tx_gen); ++n) advance(r);
        return n;
    }
    /// Sends what is there.
    void transmit(unsigned q) {
        tx& t = tx_[q];
        bytes frame;
        for (; shown(t.ring_, abi::tx_gen); advance(t.ring_)) {
            const auto& d = cell<abi::descriptor>(t.ring_);
            const std::uint32_t len = (d.word2 & abi::len_bits) == 0 ? 16384 : d.word2 & abi::len_bits;
            if (const std::byte* from = dma(d.address, len); from != nullptr) {
                const auto* b = reinterpret_cast<const std::uint8_t*>(from);
                frame.insert(frame.end(), b, b + len);
            }
            if ((d.word3 & abi::tx_eop) == 0) continue;
            ++t.frames;
            ++sent_by[q];
            t.octets += frame.size();
            sent.push_back(std::move(frame));
            frame.clear();
            complete(t.done)->word0 = t.ring_.next;
            interrupt(t.vector);
        }
        if (!frame.empty()) ++wrong;  // the end of a frame was not there when its beginning was
    }

private:
    struct range {
        std::uint64_t iova;
        std::byte* at;
        std::size_t size;
    };
    struct ring {
        std::byte* at = nullptr;
        index_t size = 0, next = 0;
        bool gen = true;
    };
    struct tx {
        ring ring_, done;
        unsigned vector = 0;
        std::uint64_t frames = 0, octets = 0;
        abi::tx_queue* shared = nullptr;
    };
    struct rx {
        std::array<ring, 2> rings;
        ring done;
        unsigned vector = 0;
        std::uint64_t frames = 0, octets = 0, out_of_buffers = 0, errors = 0;
        abi::rx_queue* shared = nullptr;
    };

    std::byte* dma(std::uint64_t iova, std::size_t len) {
        if (master)
            for (const range& r : mapped)
                if (iova >= r.iova && len <= r.size && iova - r.iova <= r.size - len) return r.at + (iova - r.iova);
        ++faults;
        return nullptr;
    }
    template <class T>
    static T& cell(const ring& r) {
        return reinterpret_cast<T*>(r.at)[r.next];
    }
    static void advance(ring& r) {
        if (++r.next == r.size) r.next = 0, r.gen = !r.gen;
    }
    static bool shown(const ring& r, std::uint32_t bit) { return ((cell<abi::descriptor>(r).word2 & bit) != 0) == r.gen; }
    abi::completion* complete(ring& r) {
        auto* c = &cell<abi::completion>(r);
        *c = {0, 0, 0, r.gen ? abi::comp_gen : 0};
        advance(r);
        return c;
    }
    bool take(rx& r, bool head, abi::descriptor& d, unsigned& which, index_t& index) {
        if (!head) {
            for (which = 0; which < 2; ++which) {
                ring& g = r.rings[which];
                if (!shown(g, abi::rx_gen)) continue;
                d = cell<abi::descriptor>(g);
                if ((d.word2 & abi::rx_body) == 0) {
                    wrong += which;  // QEMU aborts
                    continue;
                }
                index = g.next;
                advance(g);
                return true;
            }
            return false;
        }
        ring& g = r.rings[0];
        for (which = 0; shown(g, abi::rx_gen);) {
            d = cell<abi::descriptor>(g);
            index = g.next;
            advance(g);
            if ((d.word2 & abi::rx_body) == 0) return true;
        }
        return false;
    }
    void interrupt(unsigned v) {
        pending[v] = true;
        fire(v);
    }
    void fire(unsigned v) {
        if (!pending[v] || masked[v]) return;
        pending[v] = false;
        ++interrupts[v];
        if (v < eventfds.size()) base::eventfd_signal(eventfds[v]);
        if (intx) asserted = true;
        else if (config->intr.auto_mask != 0) masked[v] = true;
    }

    std::uint32_t read_data(std::size_t at) const { return at < 8 * abi::max_vectors ? masked[at / 8] : 0; }
    void write_data(std::size_t at, std::uint32_t value) {
        if (!active) return;
        if (at < 8 * abi::max_vectors) {
            masked[at / 8] = value != 0;
            fire(static_cast<unsigned>(at / 8));
        } else if (at >= 0x600 && at < 0x640) {
            ++doorbells_tx;
            if (!holds_tx) transmit(static_cast<unsigned>(at - 0x600) / 8);
        } else if (at >= 0x800 && at < 0x840) {
            ++doorbells_rx;
            rxprod = value;
        }
    }
    std::uint32_t read_control(std::size_t at) {
        const auto part = [](const std::array<std::uint8_t, 6>& m, bool high) {
            return high ? std::uint32_t{m[4]} | std::uint32_t{m[5]} << 8
                        : std::uint32_t{m[0]} | std::uint32_t{m[1]} << 8 | std::uint32_t{m[2]} << 16 | std::uint32_t{m[3]} << 24;
        };
        if (at == vmxnet3_regs::vrrs.at || at == vmxnet3_regs::uvrs.at) return revisions;
        if (at == vmxnet3_regs::macl.at) return part(mac, false);
        if (at == vmxnet3_regs::mach.at) return part(mac, true);
        if (at == vmxnet3_regs::icr.at) {
            const bool was = asserted;
            asserted = false;
            if (was && config != nullptr && config->intr.auto_mask != 0) masked[0] = true;
            return was ? 1 : 0;
        }
        if (at != vmxnet3_regs::cmd.at) return 0;
        switch (last_command) {
            case abi::activate: return active ? 0 : 1;
            case abi::get_link: return 1000U << 16 | (link_up ? 1U : 0U);
            case abi::get_perm_mac_lo: return part(perm_mac, false);
            case abi::get_perm_mac_hi: return part(perm_mac, true);
            case abi::get_conf_intr: return mask_mode << 2;
            default: return 0;
        }
    }
    void write_control(std::size_t at, std::uint32_t value) {
        if (at == vmxnet3_regs::dsal.at) low = value;
        else if (at == vmxnet3_regs::dsah.at) shared_at = low | static_cast<std::uint64_t>(value) << 32;
        else if (at == vmxnet3_regs::ecr.at) ecr_acked |= value, config->ecr &= ~value;
        else if (at == vmxnet3_regs::macl.at) mac_low = value;
        else if (at == vmxnet3_regs::mach.at)
            mac = {byte(mac_low, 0), byte(mac_low, 1), byte(mac_low, 2), byte(mac_low, 3), byte(value, 0), byte(value, 1)};
        else if (at == vmxnet3_regs::cmd.at) command(value);
    }
    static std::uint8_t byte(std::uint32_t v, unsigned n) { return static_cast<std::uint8_t>(v >> 8 * n); }
    void command(std::uint32_t c) {
        last_command = c;
        commands.push_back(c);
        if (c == abi::activate) activate();
        else if (c == abi::quiesce) active = false;
        else if (c == abi::reset) {
            active = false;
            shared_at = 0;
            masked.fill(true);
            pending.fill(false);
        } else if (c == abi::get_stats && active) {
            for (unsigned q = 0; q < config->misc.tx_queues; ++q) {
                tx_[q].shared->unicast_frames = tx_[q].frames;
                tx_[q].shared->unicast_bytes = tx_[q].octets;
            }
            for (unsigned q = 0; q < config->misc.rx_queues; ++q) {
                rx_[q].shared->unicast_frames = rx_[q].frames;
                rx_[q].shared->unicast_bytes = rx_[q].octets;
                rx_[q].shared->out_of_buffers = rx_[q].out_of_buffers;
                rx_[q].shared->errors = rx_[q].errors;
            }
        } else if (c == abi::update_rx_mode && active) {
            rx_mode = config->filter.mode;
        }
    }
    ring make(std::uint64_t iova, index_t size, bool clear) {
        if (size == 0 || size % 32 != 0 || iova % 512 != 0) ++wrong;
        std::byte* at = dma(iova, std::size_t{size} * 16);
        if (at != nullptr && clear) std::memset(at, 0, std::size_t{size} * 16);
        return {at, size, 0, true};
    }
    void activate() {
        if (refuses || active) return;
        config = reinterpret_cast<abi::shared*>(dma(shared_at, sizeof(abi::shared)));
        if (config == nullptr || config->magic != abi::magic) return;
        const unsigned txs = config->misc.tx_queues, rxs = config->misc.rx_queues;
        if (txs > max_queues || rxs > max_queues || config->misc.mtu < 60 || config->misc.mtu > 9000) return;
        if (config->misc.queues % abi::queue_alignment != 0) ++wrong;
        auto* t = reinterpret_cast<abi::tx_queue*>(dma(config->misc.queues, txs * sizeof(abi::tx_queue)));
        auto* r = reinterpret_cast<abi::rx_queue*>(dma(config->misc.queues + txs * sizeof(abi::tx_queue), rxs * sizeof(abi::rx_queue)));
        if (t == nullptr || r == nullptr) return;
        for (unsigned q = 0; q < txs; ++q)
            tx_[q] = {make(t[q].ring, t[q].ring_len, false), make(t[q].completions, t[q].completions_len, true), t[q].vector, 0, 0, t + q};
        for (unsigned q = 0; q < rxs; ++q)
            rx_[q] = {{make(r[q].rings[0], r[q].rings_len[0], false), make(r[q].rings[1], r[q].rings_len[1], false)},
                      make(r[q].completions, r[q].completions_len, true), r[q].vector, 0, 0, 0, 0, r + q};
        rx_mode = config->filter.mode;
        mac = perm_mac;
        active = true;
    }

public:
    std::uint32_t rx_mode = 0;
    std::uint64_t shared_at = 0;
    std::array<tx, max_queues> tx_;
    std::array<rx, max_queues> rx_;

private:
    std::vector<range> mapped;
    std::vector<int> eventfds;
    std::uint64_t next_iova = 0x10000000;
    std::uint32_t low = 0, mac_low = 0, last_command = 0;
};

/// For a port, which takes its bus for itself.
class vmxnet3_model_bus {
public:
    using bar_type = vmxnet3_model::bar_type;
    explicit vmxnet3_model_bus(vmxnet3_model& m) noexcept : m_(&m) {}
    [[nodiscard]] std::string name() const { return m_->name(); }
    [[nodiscard]] const char* mode() const noexcept { return m_->mode(); }
    [[nodiscard]] sys::pci_ids ids() const noexcept { return m_->ids(); }
    [[nodiscard]] result<bar_type> bar(unsigned i) { return m_->bar(i); }
    [[nodiscard]] std::uint32_t config_read(unsigned at, unsigned n) const noexcept { return m_->config_read(at, n); }
    [[nodiscard]] result<void> bus_master(bool on) { return m_->bus_master(on); }
    [[nodiscard]] result<void> reset() { return m_->reset(); }
    [[nodiscard]] unsigned irq_count(sys::irq_kind k) const noexcept { return m_->irq_count(k); }
    [[nodiscard]] result<void> set_irqs(sys::irq_kind k, std::span<const int> fds) { return m_->set_irqs(k, fds); }
    void unmask_intx() noexcept {}
    [[nodiscard]] result<std::uint64_t> dma_map(void* at, std::size_t n) { return m_->dma_map(at, n); }
    [[nodiscard]] result<void> dma_unmap(std::uint64_t iova) { return m_->dma_unmap(iova); }

private:
    vmxnet3_model* m_;
};

}  // namespace nm::test
