// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: a call inside the loop
struct backend {
    virtual void put(int) = 0;
};
void codegen_indirect_call(backend& b, int n) {
    for (int i = 0; i < n; ++i) b.put(i);
}
