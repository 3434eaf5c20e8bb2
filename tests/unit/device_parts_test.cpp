// SPDX-License-Identifier: BSD-2-Clause
// What drivers of Intel's controllers are made of: registers, addresses, rings of legacy descriptors. What a whole device makes
// of it is in nic_model_test.cpp; here each part is held against the datasheets' numbers by itself.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "nm/ports/bar.hpp"
#include "nm/ports/e1000_regs.hpp"
#include "nm/ports/intel_address.hpp"
#include "nm/ports/intel_ring.hpp"
#include "nm/ports/ixgbe_regs.hpp"

namespace {

using namespace nm;

/// Registers that remember, and a list of what was done to them.
struct wire {
    std::map<std::size_t, std::uint32_t> held;
    std::vector<std::pair<std::size_t, std::uint32_t>> writes;
    std::vector<std::size_t> reads;
    std::function<void()> at_write = [] {};
};
struct wire_bar {
    wire* w = nullptr;
    template <class Word>
    [[nodiscard]] Word read(std::size_t at) const noexcept {
        w->reads.push_back(at);
        return static_cast<Word>(w->held[at]);
    }
    template <class Word>
    void write(std::size_t at, Word value) const noexcept {
        w->at_write();
        w->writes.emplace_back(at, value);
        w->held[at] = value;
    }
    [[nodiscard]] std::size_t size() const noexcept { return 0x20000; }
};
static_assert(bar_access<wire_bar> && !bar_access<int>);
using written = std::vector<std::pair<std::size_t, std::uint32_t>>;

template <reg_mode Mode>
constexpr bool can_read = requires(const wire_bar& b, reg<Mode> r) { nm::read(b, r); };
template <reg_mode Mode>
constexpr bool can_write = requires(const wire_bar& b, reg<Mode> r) { nm::write(b, r, 0U); };
static_assert(can_read<reg_mode::rw> && can_read<reg_mode::ro> && can_read<reg_mode::rc> && can_read<reg_mode::rw1c>);
static_assert(!can_read<reg_mode::wo>, "reading it would give nonsense");
static_assert(can_write<reg_mode::rw> && can_write<reg_mode::wo> && can_write<reg_mode::rw1c>);
static_assert(!can_write<reg_mode::ro> && !can_write<reg_mode::rc>);

TEST(bar, is_memory_in_words_of_three_widths) {
    alignas(8) std::array<std::byte, 16> memory;
    memory.fill(std::byte{0xee});
    const mmio_bar bar(memory.data(), memory.size());
    EXPECT_EQ(bar.size(), 16U);
    bar.write<std::uint32_t>(4, 0x44332211U);
    bar.write<std::uint16_t>(8, std::uint16_t{0x6655});
    bar.write<std::uint8_t>(10, std::uint8_t{0x77});
    constexpr std::array<unsigned, 16> expected{0xee, 0xee, 0xee, 0xee, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0xee, 0xee, 0xee, 0xee, 0xee};
    for (std::size_t i = 0; i < memory.size(); ++i) EXPECT_EQ(std::to_integer<unsigned>(memory[i]), expected[i]) << i;
    EXPECT_EQ(bar.read<std::uint32_t>(4), 0x44332211U);
    EXPECT_EQ(bar.read<std::uint16_t>(6), 0x4433U);
    EXPECT_EQ(bar.read<std::uint8_t>(10), 0x77U);
    EXPECT_EQ(mmio_bar().size(), 0U);
}

TEST(bar, has_registers_one_by_one_and_in_rows) {
    wire w;
    const wire_bar bar{&w};
    constexpr reg<reg_mode::rw> one{0x100};
    write(bar, one, 0b1010U);
    set_bits(bar, one, 0b0011U);
    clear_bits(bar, one, 0b1000U);
    EXPECT_EQ(read(bar, one), 0b0011U);
    EXPECT_EQ(w.writes, (written{{0x100, 0b1010}, {0x100, 0b1011}, {0x100, 0b0011}}));
    EXPECT_EQ(w.reads.size(), 3U) << "each change reads once";
    constexpr reg_array<reg_mode::rw> row{0x2800, 0x40};
    EXPECT_EQ(row[0].at, 0x2800U);
    EXPECT_EQ(row[15].at, 0x2bc0U);
}

/// From Intel's datasheets, not from the tables under test.
struct number {
    std::uint64_t is, should;
    const char* what;
};
void expect_numbers(const std::vector<number>& numbers) {
    for (const number& n : numbers) EXPECT_EQ(n.is, n.should) << n.what;
}

TEST(e1000_registers, are_where_the_82574s_datasheet_has_them) {
    using r = e1000_regs;
    using b = e1000_bits;
    expect_numbers({
        {r::ctrl.at, 0x0, "CTRL"}, {r::status.at, 0x8, "STATUS"}, {r::ctrl_ext.at, 0x18, "CTRL_EXT"}, {r::fcal.at, 0x28, "FCAL"},
        {r::fcah.at, 0x2c, "FCAH"}, {r::fct.at, 0x30, "FCT"}, {r::fcttv.at, 0x170, "FCTTV"}, {r::icr.at, 0xc0, "ICR"}, {r::itr.at, 0xc4, "ITR"},
        {r::ics.at, 0xc8, "ICS"}, {r::ims.at, 0xd0, "IMS"}, {r::imc.at, 0xd8, "IMC"}, {r::eiac.at, 0xdc, "EIAC"}, {r::ivar.at, 0xe4, "IVAR"},
        {r::eitr[4].at, 0xf8, "EITR4"}, {r::rctl.at, 0x100, "RCTL"}, {r::rdbal.at, 0x2800, "RDBAL"}, {r::rdbah.at, 0x2804, "RDBAH"},
        {r::rdlen.at, 0x2808, "RDLEN"}, {r::rdh.at, 0x2810, "RDH"}, {r::rdt.at, 0x2818, "RDT"}, {r::rdtr.at, 0x2820, "RDTR"},
        {r::rxdctl.at, 0x2828, "RXDCTL"}, {r::radv.at, 0x282c, "RADV"}, {r::rxcsum.at, 0x5000, "RXCSUM"}, {r::rfctl.at, 0x5008, "RFCTL"},
        {r::mta[127].at, 0x53fc, "MTA127"}, {r::ral[0].at, 0x5400, "RAL0"}, {r::rah[15].at, 0x547c, "RAH15"}, {r::mrqc.at, 0x5818, "MRQC"},
        {r::tctl.at, 0x400, "TCTL"}, {r::tipg.at, 0x410, "TIPG"}, {r::tdbal.at, 0x3800, "TDBAL"}, {r::tdbah.at, 0x3804, "TDBAH"},
        {r::tdlen.at, 0x3808, "TDLEN"}, {r::tdh.at, 0x3810, "TDH"}, {r::tdt.at, 0x3818, "TDT"}, {r::tidv.at, 0x3820, "TIDV"},
        {r::txdctl.at, 0x3828, "TXDCTL"}, {r::crcerrs.at, 0x4000, "CRCERRS"}, {r::algnerrc.at, 0x4004, "ALGNERRC"},
        {r::rxerrc.at, 0x400c, "RXERRC"}, {r::mpc.at, 0x4010, "MPC"}, {r::rlec.at, 0x4040, "RLEC"}, {r::gprc.at, 0x4074, "GPRC"},
        {r::gorcl.at, 0x4088, "GORCL"}, {r::gorch.at, 0x408c, "GORCH"}, {r::totl.at, 0x40c8, "TOTL"}, {r::toth.at, 0x40cc, "TOTH"},
        {r::tpt.at, 0x40d4, "TPT"}, {r::last_statistic, 0x4124, "ICRXOC"},
    });
    expect_numbers({
        {b::ctrl_fd, 1, "FD"}, {b::ctrl_master_disable, 4, "GIO master disable"}, {b::ctrl_asde, 0x20, "ASDE"}, {b::ctrl_slu, 0x40, "SLU"},
        {b::ctrl_rst, 0x0400'0000, "RST"}, {b::ctrl_flow_control, 0x1800'0000, "RFCE, TFCE"}, {b::ctrl_vme, 0x4000'0000, "VME"},
        {b::ctrl_phy_rst, 0x8000'0000, "PHY_RST"}, {b::status_lu, 2, "LU"}, {b::status_master, 0x8'0000, "GIO master enable"},
        {b::ctrl_ext_pba, 0x8000'0000, "PBA"}, {b::irq_txdw, 1, "TXDW"}, {b::irq_lsc, 4, "LSC"}, {b::irq_rxdmt0, 0x10, "RXDMT0"},
        {b::irq_rxo, 0x40, "RXO"}, {b::irq_rxt0, 0x80, "RXT0"}, {b::irq_rxq0, 0x10'0000, "RXQ0"}, {b::irq_txq0, 0x40'0000, "TXQ0"},
        {b::irq_other, 0x100'0000, "Other"}, {b::rctl_en, 2, "RCTL.EN"}, {b::rctl_upe, 8, "UPE"}, {b::rctl_mpe, 0x10, "MPE"}, {b::rctl_lpe, 0x20, "LPE"},
        {b::rctl_bam, 0x8000, "BAM"}, {3U << b::rctl_bsize, 0x3'0000, "BSIZE"}, {b::rctl_bsex, 0x200'0000, "BSEX"}, {b::rctl_secrc, 0x400'0000, "SECRC"},
        {b::tctl_en, 2, "TCTL.EN"}, {b::tctl_psp, 8, "PSP"}, {b::tctl_ct, 0xf0, "CT"}, {b::tctl_cold, 0x4'0000, "COLD"},
        {b::tctl_mulr, 0x1000'0000, "MULR"}, {b::xdctl_gran, 0x100'0000, "GRAN"}, {b::xdctl_wthresh_1, 0x1'0000, "WTHRESH 1"},
    });
}

TEST(ixgbe_registers, are_where_the_82599s_datasheet_has_them) {
    using r = ixgbe_regs;
    using b = ixgbe_bits;
    expect_numbers({
        {r::ctrl.at, 0x0, "CTRL"}, {r::status.at, 0x8, "STATUS"}, {r::ctrl_ext.at, 0x18, "CTRL_EXT"}, {r::eec.at, 0x10010, "EEC"},
        {r::fccfg.at, 0x3d00, "FCCFG"}, {r::mflcn.at, 0x4294, "MFLCN"}, {r::eicr.at, 0x800, "EICR"}, {r::eiac.at, 0x810, "EIAC"},
        {r::eims.at, 0x880, "EIMS"}, {r::eimc.at, 0x888, "EIMC"}, {r::eiam.at, 0x890, "EIAM"}, {r::eims_ex[1].at, 0xaa4, "EIMS_EX1"},
        {r::eimc_ex[1].at, 0xab4, "EIMC_EX1"}, {r::eiam_ex[1].at, 0xad4, "EIAM_EX1"}, {r::eitr(0).at, 0x820, "EITR0"}, {r::eitr(23).at, 0x87c, "EITR23"},
        {r::eitr(24).at, 0x12300, "EITR24"}, {r::eitr(128).at, 0x124a0, "EITR128"}, {r::ivar[63].at, 0x9fc, "IVAR63"}, {r::ivar_misc.at, 0xa00, "IVAR_MISC"},
        {r::gpie.at, 0x898, "GPIE"}, {r::fctrl.at, 0x5080, "FCTRL"}, {r::vlnctrl.at, 0x5088, "VLNCTRL"}, {r::mcstctrl.at, 0x5090, "MCSTCTRL"},
        {r::rxcsum.at, 0x5000, "RXCSUM"}, {r::mta[127].at, 0x53fc, "MTA127"}, {r::ral[127].at, 0xa5f8, "RAL127"}, {r::rah[127].at, 0xa5fc, "RAH127"},
        {r::mrqc.at, 0xec80, "MRQC"}, {r::reta[31].at, 0xeb7c, "RETA31"}, {r::rssrk[9].at, 0xeba4, "RSSRK9"},
        {r::rdbal[63].at, 0x1fc0, "RDBAL63"}, {r::rdbah[1].at, 0x1044, "RDBAH1"}, {r::rdlen[1].at, 0x1048, "RDLEN1"}, {r::dca_rxctrl[1].at, 0x104c, "DCA_RXCTRL1"},
        {r::rdh[1].at, 0x1050, "RDH1"}, {r::srrctl[1].at, 0x1054, "SRRCTL1"}, {r::rdt[1].at, 0x1058, "RDT1"}, {r::rxdctl[1].at, 0x1068, "RXDCTL1"},
        {r::rscctl[1].at, 0x106c, "RSCCTL1"}, {r::rdrxctl.at, 0x2f00, "RDRXCTL"}, {r::rxctrl.at, 0x3000, "RXCTRL"}, {r::rxpbsize[7].at, 0x3c1c, "RXPBSIZE7"},
        {r::dmatxctl.at, 0x4a80, "DMATXCTL"}, {r::tdbal[127].at, 0x7fc0, "TDBAL127"}, {r::tdbah[1].at, 0x6044, "TDBAH1"}, {r::tdlen[1].at, 0x6048, "TDLEN1"},
        {r::tdh[1].at, 0x6050, "TDH1"}, {r::tdt[1].at, 0x6058, "TDT1"}, {r::txdctl[1].at, 0x6068, "TXDCTL1"}, {r::dtxmxszrq.at, 0x8100, "DTXMXSZRQ"},
        {r::mtqc.at, 0x8120, "MTQC"}, {r::rttdcs.at, 0x4900, "RTTDCS"}, {r::txpbthresh[7].at, 0x496c, "TXPBTHRESH7"}, {r::txpbsize[7].at, 0xcc1c, "TXPBSIZE7"},
        {r::secrxctrl.at, 0x8d00, "SECRXCTRL"}, {r::secrxstat.at, 0x8d04, "SECRXSTAT"}, {r::hlreg0.at, 0x4240, "HLREG0"}, {r::maxfrs.at, 0x4268, "MAXFRS"},
        {r::autoc.at, 0x42a0, "AUTOC"}, {r::links.at, 0x42a4, "LINKS"}, {r::crcerrs.at, 0x4000, "CRCERRS"}, {r::illerrc.at, 0x4004, "ILLERRC"},
        {r::errbc.at, 0x4008, "ERRBC"}, {r::mpc[7].at, 0x3fbc, "MPC7"}, {r::rlec.at, 0x4040, "RLEC"}, {r::gprc.at, 0x4074, "GPRC"}, {r::gptc.at, 0x4080, "GPTC"},
        {r::gorcl.at, 0x4088, "GORCL"}, {r::gorch.at, 0x408c, "GORCH"}, {r::gotcl.at, 0x4090, "GOTCL"}, {r::gotch.at, 0x4094, "GOTCH"},
        {r::qprdc[15].at, 0x17f0, "QPRDC15"},
    });
    expect_numbers({
        {b::ctrl_master_disable, 4, "PCIe master disable"}, {b::ctrl_lrst, 8, "LRST"}, {b::ctrl_rst, 0x400'0000, "RST"}, {b::status_master, 0x8'0000, "master enable"},
        {b::ctrl_ext_ns_dis, 0x1'0000, "NS_DIS"}, {b::ctrl_ext_drv_load, 0x1000'0000, "DRV_LOAD"}, {b::eec_auto_rd, 0x200, "Auto_RD"}, {b::irq_lsc, 0x10'0000, "LSC"},
        {b::ivar_valid, 0x80, "INT_Alloc_val"}, {b::gpie_msix, 0x10, "Multiple_MSIX"}, {b::gpie_ocd, 0x20, "OCD"}, {b::gpie_eiame, 0x4000'0000, "EIAME"},
        {b::gpie_pba, 0x8000'0000, "PBA_support"}, {b::eitr_interval, 0xff8, "ITR interval"}, {b::fctrl_mpe, 0x100, "MPE"}, {b::fctrl_upe, 0x200, "UPE"},
        {b::fctrl_bam, 0x400, "BAM"}, {b::rxcsum_pcsd, 0x2000, "PCSD"}, {b::mrqc_fields, 0xf3'0000, "TCP, IP and UDP of both"}, {b::srrctl_drop, 0x1000'0000, "Drop_En"},
        {b::queue_enable, 0x200'0000, "ENABLE"}, {b::rdrxctl_crcstrip, 2, "CRCStrip"}, {b::rdrxctl_dmaidone, 8, "DMAIDONE"}, {b::rdrxctl_rscfrstsize, 0x3e'0000, "RSCFRSTSIZE"},
        {b::rdrxctl_ones, 0x600'0000, "RSCACKC, FCOE_WRFIX"}, {b::rttdcs_arbdis, 0x40, "ARBDIS"}, {b::secrxctrl_rx_dis, 2, "RX_DIS"}, {b::hlreg0_txcrcen, 1, "TXCRCEN"},
        {b::hlreg0_rxcrcstrp, 2, "RXCRCSTRP"}, {b::hlreg0_jumboen, 4, "JUMBOEN"}, {b::hlreg0_txpaden, 0x400, "TXPADEN"}, {b::autoc_restart, 0x1000, "Restart_AN"},
        {b::links_up, 0x4000'0000, "Link Up"},
    });
}

TEST(intel_address, has_the_first_byte_lowest) {
    constexpr mac_address mac{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    constexpr intel::address_registers r(mac);
    static_assert(r.low == 0x12005452 && r.high == 0x80005634);
    EXPECT_EQ(r.mac(), mac);
    EXPECT_EQ(intel::address_registers(0x12005452, 0x5634).mac(), mac) << "valid or not";
    EXPECT_EQ(intel::address_registers(0x12005452, 0xffff5634).mac(), mac) << "what else is in the high one";
    EXPECT_EQ(intel::address_registers(~0U, 0xffff).mac(), (mac_address{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}));
}

constexpr std::uint64_t rs = 0x0800'0000, ifcs = 0x0200'0000, eop = 0x0100'0000;  // commands, 82574 7.2.10
constexpr std::uint64_t done = 0x1'0000'0000, rx_eop = 0x2'0000'0000;             // status

struct intel_tx_test : testing::Test {
    static constexpr std::uint32_t n = 8, tail_at = 0x3818;
    std::array<intel_descriptor, n> ring{};
    std::array<intel_tx<wire_bar>::mark, n> marks{};
    wire w;
    intel_tx<wire_bar> q{{ring.data(), marks.data(), n, n, tail_at}, wire_bar{&w}, {0x10'0000, nullptr, 2112}};

    void frame(index_t slot) { q.put(slot, slot + 2, 60, true); }
    void finish(std::uint32_t descriptor) { ring[descriptor].word |= done; }
};

TEST_F(intel_tx_test, writes_a_descriptor_and_then_the_tail) {
    bool before = false;
    w.at_write = [&] { before = ring[0].word == (60 | ifcs | eop | rs); };
    q.put(0, 7, 60, true);
    EXPECT_EQ(ring[0].address, 0x10'0000 + 7 * 2112U);
    EXPECT_TRUE(w.writes.empty()) << "a doorbell a batch";
    q.publish(1);
    EXPECT_TRUE(before) << "it is complete, and asks to be reported, when the device is told";
    EXPECT_EQ(w.writes, (written{{tail_at, 1}}));
    q.publish(1);
    EXPECT_EQ(w.writes.size(), 1U) << "nothing new";
    EXPECT_TRUE(w.reads.empty()) << "no register is read to send";
}

TEST_F(intel_tx_test, has_sent_what_the_device_says_it_has) {
    frame(0), frame(1);
    q.publish(2);
    EXPECT_EQ(ring[0].word & rs, 0U) << "the last of a batch speaks for it";
    EXPECT_EQ(ring[1].word & rs, rs);
    EXPECT_EQ(q.reclaim(), 0U);
    finish(0);
    EXPECT_EQ(q.reclaim(), 0U) << "it was not asked";
    finish(1);
    EXPECT_EQ(q.reclaim(), 2U);
}

TEST_F(intel_tx_test, goes_round) {
    for (index_t i = 0; i < 5 * n; ++i) {
        const index_t slot = i % n;
        frame(slot);
        q.publish((slot + 1) % n);
        EXPECT_EQ(w.writes.back(), (std::pair<std::size_t, std::uint32_t>(tail_at, (slot + 1) % n)));
        finish(slot);
        EXPECT_EQ(q.reclaim(), (slot + 1) % n);
        EXPECT_EQ(ring[slot].address, 0x10'0000 + (slot + 2) * 2112U);
    }
}

TEST_F(intel_tx_test, asks_within_a_batch_that_is_longer_than_a_quarter_of_the_ring) {
    for (index_t i = 0; i < 7; ++i) frame(i);
    q.publish(7);
    std::vector<index_t> asked;
    for (index_t i = 0; i < n; ++i)
        if ((ring[i].word & rs) != 0) asked.push_back(i);
    EXPECT_EQ(asked, (std::vector<index_t>{2, 5, 6}));
    finish(2);
    EXPECT_EQ(q.reclaim(), 3U) << "a part of the batch comes back";
    EXPECT_EQ(w.writes, (written{{tail_at, 7}}));
}

TEST_F(intel_tx_test, holes_take_no_descriptor) {
    q.publish(3);
    EXPECT_TRUE(w.writes.empty());
    EXPECT_EQ(q.reclaim(), 3U) << "nothing was sent from them";
    frame(3);
    q.publish(4);
    EXPECT_EQ(w.writes, (written{{tail_at, 1}}));
    q.publish(6);
    EXPECT_EQ(q.reclaim(), 3U) << "not before what is on its way";
    finish(0);
    EXPECT_EQ(q.reclaim(), 6U);
}

TEST_F(intel_tx_test, what_is_taken_back_never_was) {
    q.put(0, 2, 2000, false);
    q.put(1, 3, 2000, false);
    q.publish(0);
    EXPECT_TRUE(w.writes.empty()) << "half a frame";
    q.rewind(2);
    q.put(2, 9, 77, true);
    q.publish(3);
    EXPECT_EQ(ring[0].word, 77 | ifcs | eop | rs);
    EXPECT_EQ(ring[0].address, 0x10'0000 + 9 * 2112U);
    EXPECT_EQ(w.writes, (written{{tail_at, 1}}));
}

TEST_F(intel_tx_test, reports_where_it_is_asked_to) {
    frame(0);
    q.report(0);
    frame(1);
    q.publish(2);
    EXPECT_EQ(ring[0].word & rs, rs);
    finish(0);
    EXPECT_EQ(q.reclaim(), 1U);
}

struct intel_rx_test : testing::Test {
    static constexpr std::uint32_t n = 8, tail_at = 0x2818;
    std::array<intel_descriptor, n> ring{};
    wire w;
    live_counters stats;
    intel_rx<wire_bar> q{ring.data(), n, tail_at, wire_bar{&w}, {0x10'0000, nullptr, 2112}};
    slot s{3, 0, 0, 0};

    intel_rx_test() { q.stats = &stats; }
};

TEST_F(intel_rx_test, gives_the_device_all_but_one) {
    for (index_t i = 0; i < n; ++i) q.give(i, i + 2);
    q.begin();
    EXPECT_EQ(w.writes, (written{{tail_at, 7}}));
    for (index_t i = 0; i < n; ++i) EXPECT_EQ(ring[i].address, 0x10'0000 + (i + 2) * 2112U);
    q.publish(0);
    EXPECT_EQ(w.writes.size(), 1U) << "nothing was given back";
    q.publish(1);
    q.publish(5);
    EXPECT_EQ(w.writes, (written{{tail_at, 7}, {tail_at, 0}, {tail_at, 4}})) << "the tail is one behind";
}

TEST_F(intel_rx_test, says_what_has_come) {
    EXPECT_FALSE(q.ready(0));
    ring[0].word = 1514;
    EXPECT_FALSE(q.ready(0)) << "a length is nothing before it is done";
    ring[0].word = 2048 | done;
    ASSERT_TRUE(q.ready(0));
    q.get(0, s);
    EXPECT_EQ(s.len, 2048U);
    EXPECT_EQ(s.flags, ns_morefrag);
    ring[1].word = 100 | done | rx_eop;
    ASSERT_TRUE(q.ready(1));
    ring[1].word = 9999 | done;  // a device that writes once more: what was looked at counts
    q.get(1, s);
    EXPECT_EQ(s.len, 100U);
    EXPECT_EQ(s.flags, 0U);
    EXPECT_EQ(s.buf_idx, 3U);
    q.give(1, 4);
    EXPECT_FALSE(q.ready(1)) << "given back";
    EXPECT_EQ(stats.now().dropped(), 0U);
}

TEST_F(intel_rx_test, counts_a_frame_of_nothing) {
    ring[0].word = done | rx_eop;
    ASSERT_TRUE(q.ready(0));
    q.get(0, s);
    EXPECT_EQ(s.len, 0U);
    EXPECT_EQ(stats.now().dropped(cause::bad_len), 1U);
}

}  // namespace
