// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: a call inside the loop
// functions: ^int road<
void work(int);
template <class T>
[[gnu::noinline]] int road(const T* p, int n) {
    for (int i = 0; i < n; ++i) work(p[i]);
    return n;
}
int codegen_outlined(const int* p, int n) { return road(p, n); }
