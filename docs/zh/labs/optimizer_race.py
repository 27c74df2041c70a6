# ---
# title: 实验室：优化器赛跑
# description: 六种优化器各自调好学习率，在一个碗、一个小网络和一个怪曲面上比，种子的波动放在差距旁边。
# ---

# %% [markdown]
# # 优化器赛跑 {#optimizer-race}
#
# 问题只有一个：**换一个优化器，到底能快多少？**
#
# 这样的比较最容易作弊。给一方调好学习率、另一方用默认值，谁赢由作者决定。
# 所以这里的规矩是：每个优化器用同一组候选学习率、同样的步数预算，各自取最好的；调参的全过程画出来；
# 最后换一批没有用来调参的种子再跑一遍，把种子之间的波动和优化器之间的差距放在同一张图上。
#
# 各个优化器的公式在[优化算法](../training/optimizers.md)一章里推导过，这里只用，不推导。

# %%
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

torch.set_num_threads(1)

# %% [markdown]
# ## 选手和赛道 {#entrants}
#
# 六个选手全部来自 `torch.optim`，除学习率以外都用默认值；动量一律取 0.9。

# %%
Maker = Callable[[list[Tensor], float], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Maker] = {
    "SGD": lambda params, lr: torch.optim.SGD(params, lr),
    "Momentum": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9),
    "Nesterov": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9, nesterov=True),
    "Adagrad": lambda params, lr: torch.optim.Adagrad(params, lr),
    "RMSprop": lambda params, lr: torch.optim.RMSprop(params, lr),
    "Adam": lambda params, lr: torch.optim.Adam(params, lr),
}
COLOURS = {name: f"C{i}" for i, name in enumerate(OPTIMIZERS)}
RATES = [10.0**k for k in torch.arange(-4, 1.01, 0.5).tolist()]  # 1e-4 ... 10

# %% [markdown]
# 赛道有三条。一条赛道就是一个函数：给它优化器、学习率和一组种子，它跑完固定的步数，返回每一步的损失。
# 一组种子放进同一个张量一起跑，第一维是种子：这里的优化器都逐个元素更新，各个种子互不相干，
# 结果和分开跑一样，快得多。发散的一律记成无穷大，不许悄悄丢掉。
#
# **赛道一，碗。** $f(x) = \frac{1}{2}\sum_i a_i x_i^2$，20 维，曲率 $a_i$ 从 1 到 100 等比排列。
# 起点随机，梯度没有噪声。再加一个变种：把碗随机转一个角度，曲率不变，方向不再和坐标轴对齐。

# %%
CURVATURES = torch.logspace(0, 2, 20)  # condition number 100


def draws(seeds: range, *shape: int) -> Tensor:
    """Return standard normal numbers (seeds, *shape), each seed with its own generator."""
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
    )


def finite(losses: list[Tensor]) -> Tensor:
    """Return the losses as (seeds, steps), what diverged as infinity."""
    return torch.stack(losses, dim=1).nan_to_num(nan=math.inf, posinf=math.inf)


def run_bowl(make: Maker, lr: float, seeds: range, rotate: bool = False) -> Tensor:
    """Return the loss before each of 150 steps, divided by the first: (seeds, 150)."""
    x = draws(seeds, 20).unsqueeze(2).requires_grad_()  # (S, 20, 1)
    axes = torch.linalg.qr(draws(seeds, 21, 20)[:, 1:]).Q if rotate else torch.eye(20)
    optimizer, losses = make([x], lr), []
    for _ in range(150):
        loss = 0.5 * (CURVATURES * (axes @ x).squeeze(2) ** 2).sum(1)  # (S,)
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    values = finite(losses)
    return values / values[:, :1]


# %% [markdown]
# **赛道二，小网络。** scikit-learn 自带的手写数字，64 → 32 → 10，批量 64，240 步。
# 种子决定初始化，批的次序各个种子相同。每步的损失太吵，所以每 10 步在整个训练集上量一次。

# %%
digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32) / 16  # (1797, 64)
y = torch.tensor(digits.target)
order = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
X_train, y_train = X[order[:1437]], y[order[:1437]]
X_test, y_test = X[order[1437:]], y[order[1437:]]


def network(x: Tensor, params: list[Tensor]) -> Tensor:
    """Return logits (S, N, 10) of S networks; x: (N, 64)."""
    W1, b1, W2, b2 = params
    return torch.relu(x @ W1 + b1) @ W2 + b2


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of each network, (S,)."""
    labels = labels.expand(len(logits), -1)
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)


def run_network(make: Maker, lr: float, seeds: range) -> tuple[Tensor, Tensor]:
    """Return the training loss every 10 of 240 steps (S, 24) and the test accuracy (S,)."""
    first = draws(seeds, 64 * 32 + 32 * 10)
    W1 = first[:, : 64 * 32].reshape(-1, 64, 32) * (2 / 64) ** 0.5
    W2 = first[:, 64 * 32 :].reshape(-1, 32, 10) * (1 / 32) ** 0.5
    biases = torch.zeros(len(first), 1, 32), torch.zeros(len(first), 1, 10)
    params = [W1, biases[0], W2, biases[1]]
    params = [p.clone().requires_grad_() for p in params]
    optimizer, losses, g = make(params, lr), [], torch.Generator().manual_seed(0)
    for step in range(240):
        batch = torch.randint(len(X_train), (64,), generator=g)
        loss = cross_entropy(network(X_train[batch], params), y_train[batch])
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        if (step + 1) % 10 == 0:
            with torch.no_grad():
                losses.append(cross_entropy(network(X_train, params), y_train))
    with torch.no_grad():
        right = network(X_test, params).argmax(2) == y_test
    return finite(losses), right.float().mean(1)


# %% [markdown]
# **赛道三，怪曲面。** 一条弯的沟，沟底还带波纹：
#
# $$
# g(u, v) = (1 - u)^2 + 20\,(v - u^2)^2 + \tfrac{1}{2}\bigl(1 - \cos 6u\bigr)\, u^2 \tag{1}
# $$
#
# 前两项是 Rosenbrock 函数，最后一项让沟底起伏。先看它长什么样，再比。


# %%
def odd(u: Tensor, v: Tensor) -> Tensor:
    """A bent valley with ripples along its floor."""
    return (1 - u) ** 2 + 20 * (v - u**2) ** 2 + 0.5 * (1 - torch.cos(6 * u)) * u**2


def run_odd(make: Maker, lr: float, seeds: range) -> tuple[Tensor, Tensor]:
    """Return losses (S, 200) and paths (S, 200, 2) from starts near (-1.2, 1)."""
    point = (torch.tensor([-1.2, 1.0]) + 0.2 * draws(seeds, 2)).requires_grad_()
    optimizer, losses, path = make([point], lr), [], []
    for _ in range(200):
        loss = odd(point[:, 0], point[:, 1])
        losses.append(loss.detach())
        path.append(point.detach().clone())
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    return finite(losses), torch.stack(path, dim=1)


# %% alt="曲面的等高线图：一条向上弯的月牙形深沟，沟底有几处低洼，起点在左上，最低点在右侧偏中" caption="怪曲面的等高线，颜色是 $\\log_{10} g$；叉是网格上找到的最低点。"
u, v = torch.meshgrid(torch.linspace(-2, 2, 201), torch.linspace(-1, 3, 201), indexing="xy")
z = odd(u, v)
lowest = z.argmin()
print(
    f"lowest point on the grid: u = {u.flatten()[lowest]:.2f}, v = {v.flatten()[lowest]:.2f}, "
    f"g = {z.min():.4f}"
)
along = odd(u[0], u[0] ** 2)  # the floor of the valley
inner = (along[1:-1] < along[:-2]) & (along[1:-1] < along[2:])
print(
    "dips of the floor:",
    [f"g({u[0, i + 1]:.2f}) = {along[i + 1]:.2f}" for i in inner.nonzero().flatten().tolist()],
)
fig, ax = plt.subplots()
coarse = slice(None, None, 4)  # a lighter drawing
landscape = [part[coarse, coarse] for part in (u, v, z.clamp(min=1e-3).log10())]
filled = ax.contourf(*landscape, levels=14)
fig.colorbar(filled, label="log10 g")
ax.plot(u.flatten()[lowest], v.flatten()[lowest], "x", color="white", markersize=9)
ax.set(xlabel="u", ylabel="v")
fig.tight_layout()

# %% [markdown]
# 沟底不止一个低洼：停在哪个洼里，比走得快不快更要紧。
#
# ## 调参，全部摊开 {#tuning}
#
# 同一张学习率表，同样 3 个种子（100、101、102，后面不再用）。
# 分数取最终损失在 3 个种子上的中位数，越低越好。决定只看这张图。

# %%
TUNING_SEEDS = range(100, 103)


def final(losses: Tensor) -> Tensor:
    """Score runs by their last five losses, so that one lucky step does not decide: (S,)."""
    return losses[:, -5:].mean(1)


TRACKS: dict[str, Callable[[Maker, float, range], Tensor]] = {
    "bowl": lambda make, lr, seeds: run_bowl(make, lr, seeds),
    "rotated": lambda make, lr, seeds: run_bowl(make, lr, seeds, rotate=True),
    "network": lambda make, lr, seeds: run_network(make, lr, seeds)[0],
    "odd": lambda make, lr, seeds: run_odd(make, lr, seeds)[0],
}
scores = {
    track: {
        name: [final(run(make, lr, TUNING_SEEDS)).median().item() for lr in RATES]
        for name, make in OPTIMIZERS.items()
    }
    for track, run in TRACKS.items()
}

# %% alt="四张小图，横轴是学习率，纵轴是最终损失，都是对数刻度；每条线一个优化器，都呈碗形，碗底的位置相差一到两个数量级" caption="调参的全过程。线断掉的地方是发散。"
fig, axes = plt.subplots(4, 1, figsize=(4.8, 9.0))
for ax, (track, by_name) in zip(axes, scores.items(), strict=True):
    for name, values in by_name.items():
        shown = [value if value < 1e3 else math.nan for value in values]
        ax.plot(RATES, shown, "o-", markersize=3, label=name, color=COLOURS[name])
    ax.set(xscale="log", yscale="log", title=track, ylabel="final loss")
axes[-1].set_xlabel("learning rate")
fig.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=3, fontsize=9)
fig.tight_layout(rect=(0, 0, 1, 0.93))

# %%
best = {
    track: {name: RATES[values.index(min(values))] for name, values in by_name.items()}
    for track, by_name in scores.items()
}
print(f"{'':10}" + "".join(f"{track:>10}" for track in best))
for name in OPTIMIZERS:
    print(f"{name:10}" + "".join(f"{best[track][name]:10.2g}" for track in best))

edges = [(t, n) for t in best for n in OPTIMIZERS if best[t][n] in (RATES[0], RATES[-1])]
print("best rate at the edge of the table:", edges or "none")

# %% [markdown]
# 两个决定：
#
# - 最好的学习率要是落在表的边上，表就得加宽再来。最后一行就是检查这个的。
# - 每个优化器在不同赛道上要的学习率差得很远。所以“Adam 用 0.001”是一个起点，不是一个答案。
#
# ## 碗上的比赛 {#bowl}
#
# 换上新的种子 0 到 9，每个优化器用自己的最好学习率。

# %% alt="上下两张小图，纵轴是相对损失，对数刻度；上面是对齐坐标轴的碗，下面是转过的碗，每个优化器一条线，阴影是种子间的范围" caption="上：碗与坐标轴对齐；下：同一个碗转一个角度。线是 10 个种子的中位数，阴影从最小到最大。"
SEEDS = range(10)


def band(ax, runs: Tensor, name: str, x: range) -> None:
    """Draw the median and the range over seeds of curves (S, len(x))."""
    values = runs.clamp(1e-12, 1e6)
    ax.plot(x, values.median(0).values, color=COLOURS[name], label=name)
    ax.fill_between(x, values.amin(0), values.amax(0), color=COLOURS[name], alpha=0.2, lw=0)


fig, axes = plt.subplots(2, 1, figsize=(4.8, 6.0), sharey=True)
ends = {}
for ax, (track, rotate) in zip(axes, {"bowl": False, "rotated": True}.items(), strict=True):
    for name, make in OPTIMIZERS.items():
        runs = run_bowl(make, best[track][name], SEEDS, rotate)
        ends[track, name] = final(runs).median().clamp(min=1e-12)
        band(ax, runs[:, ::5], name, range(0, 150, 5))
    ax.set(yscale="log", title=track, ylabel="loss / first loss")
axes[0].legend(ncols=2, fontsize=8)
axes[1].set_xlabel("step")
fig.tight_layout()

for name in OPTIMIZERS:
    plain, turned = ends["bowl", name], ends["rotated", name]
    print(f"{name:10} bowl {plain:8.1e}   rotated {turned:8.1e}   ratio {turned / plain:8.1e}")

# %% [markdown]
# SGD 一类只看梯度本身，碗转不转，它们看到的是同一个碗，比值接近 1。
# Adagrad 和 RMSprop 给每个**坐标**一个步长：曲率和坐标轴对齐时，它们几乎一个坐标一个坐标地解掉了这道题
# （低于 $10^{-12}$ 的都按 $10^{-12}$ 打印）；一转角度，这个好处就没有了，比值差出许多个数量级。
# 所以用对齐的碗来宣传自适应优化器，是挑了赛道。Adam 也按坐标缩放，但它还带动量，这里它的比值和前两个很不一样；
# 是动量救了它，还是学习率表正好合适？这是一个可以接着查的问题。
#
# ## 小网络上的比赛 {#network}

# %% alt="训练损失随步数下降的曲线，对数刻度，每个优化器一条带阴影的线，几条线末尾靠得很近" caption="手写数字上的训练损失，10 个新种子；阴影从最小到最大。"
fig, ax = plt.subplots()
accuracies, last = {}, {}
for name, make in OPTIMIZERS.items():
    losses, accuracies[name] = run_network(make, best["network"][name], SEEDS)
    last[name] = final(losses)
    band(ax, losses, name, range(10, 241, 10))
ax.set(yscale="log", xlabel="step", ylabel="training loss")
ax.legend(ncols=2, fontsize=8)
fig.tight_layout()

# %% alt="每个优化器一列的散点图，十个点是十个种子的测试准确率；Momentum、Nesterov、Adam 三列重叠在高处，另外三列低一截" caption="同样 60 次运行的测试准确率：一个点一个种子，横线是均值。"
fig, ax = plt.subplots()
for i, (name, values) in enumerate(accuracies.items()):
    ax.plot([i] * len(values), values, "o", color=COLOURS[name], alpha=0.6, markersize=5)
    ax.plot([i - 0.3, i + 0.3], [values.mean()] * 2, color=COLOURS[name])
ax.set_xticks(range(len(accuracies)), accuracies, rotation=30)
ax.set_ylabel("test accuracy")
fig.tight_layout()

for name in OPTIMIZERS:
    print(
        f"{name:10} loss {last[name].mean():.4f} ± {last[name].std():.4f}   "
        f"accuracy {accuracies[name].mean():.3f} ± {accuracies[name].std():.3f}"
    )
means = torch.stack([values.mean() for values in accuracies.values()])
spread = torch.stack([values.std() for values in accuracies.values()]).mean()
print(
    f"best minus worst mean accuracy: {means.max() - means.min():.3f}; "
    f"a typical standard deviation over seeds: {spread:.3f}"
)

# %% [markdown]
# 读这张表要把最后一行的两个数放在一起看。差距比种子的波动大好几倍的，是真的差距；
# 差不多大的，只跑一个种子就宣布“甲比乙好”，多半是在报告种子。
# 更灵敏的办法是成对地比：同一个种子、同一个起点，逐个相减。

# %%
reference = "Adam"
for name in OPTIMIZERS:
    if name != reference:
        gap = accuracies[reference] - accuracies[name]
        wins = (gap > 0).sum().item()
        print(
            f"Adam - {name:9} {gap.mean():+.4f} ± {gap.std() / len(gap) ** 0.5:.4f} "
            f"(standard error), ahead on {wins} of {len(gap)} seeds"
        )

# %% [markdown]
# 和 SGD、Adagrad、RMSprop 的差距每个种子都看得见；和 Momentum、Nesterov 的差距只有一两个标准误，
# 十个种子还分不出高下。一句“Adam 最好”把这两种情况说成了一种。
#
# ## 怪曲面上的比赛 {#odd-surface}
#
# 起点都在左边的山坡上，每个种子稍有不同。画出种子 0 的路。

# %% alt="等高线上的六条路线，从左上出发进入沟里，有的停在半路的低洼，有的走到右侧" caption="种子 0 的六条路，200 步；圆点是终点。"
fig, ax = plt.subplots(figsize=(4.8, 3.6))
ax.contour(*landscape, levels=12, colors="0.6", linewidths=0.6)
for name, make in OPTIMIZERS.items():
    _, paths = run_odd(make, best["odd"][name], range(1))
    us, vs = paths[0].T
    ax.plot(us, vs, color=COLOURS[name], lw=1.2, label=name)
    ax.plot(us[-1], vs[-1], "o", color=COLOURS[name], markersize=6)
ax.set(xlim=(-2, 2), ylim=(-1, 3), xlabel="u", ylabel="v")
ax.legend(ncols=2, fontsize=8)
fig.tight_layout()

# %%
for name, make in OPTIMIZERS.items():
    losses, paths = run_odd(make, best["odd"][name], range(30))
    finals = final(losses)
    left = (paths[:, -1, 0] < -0.5).sum()
    print(
        f"{name:10} median g {finals.median():7.4f}   below 0.05: {(finals < 0.05).sum():2} of 30"
        f"   still at u < -0.5: {left:2} of 30"
    )

# %% [markdown]
# 和前面打印的沟底对一下：中位数在 0.5 附近的，停在 $u \approx 0.44$ 的那个洼里；接近 0 的，到了真正的最低点。
# 决定名次的不是走得快不快，而是有没有惯性冲过那道坎。同一个优化器，起点只差一点，也会分到两个洼里：
# “低于 0.05”一列不是非 0 即 30 的，就是这样。调参用的 3 个种子只能说明那 3 个起点。
#
# ## 这次学到的 {#decisions}
#
# - 先给每一方同样的调参预算，再谈谁快。调参图比最后的排名更有用：碗底宽的优化器，调起来省事。
# - 自适应步长的好处一部分来自坐标轴：转一下碗就能看出来。
# - 测试准确率的差距要和种子的波动放在一起；成对比较比各报各的均值更灵敏。
# - 曲面有许多低洼时，终点由起点和步长决定，一张图、一个种子说明不了什么。
#
# ## 接着试 {#next}
#
# 1. 把动量 0.9 也放进调参表。Momentum 和 Nesterov 的差别还在吗？
# 2. 把碗的条件数从 100 改成 10 000。哪个优化器的名次变得最多？
# 3. 给小网络加上学习率的余弦退火（[训练配方](../training/recipe.md)），再看测试准确率那张图。
# 4. 把小网络的步数砍到 50。预算很短的时候，名次还一样吗？
# 5. 自己造一个让 SGD 稳赢 Adam 的曲面。提示：转过的碗是一个开头。
