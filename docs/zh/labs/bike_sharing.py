# ---
# title: 实验室：单车租用量，从看图到解释误差
# description: 先看数据，再立基线，再上小网络，最后把误差按小时、天气、日期拆开，看模型到底不懂什么。
# ---

# %% [markdown]
# # 单车租用量：误差从哪里来 {#bike-sharing}
#
# 问题：**模型错在哪些小时、哪些日子？这些错，是模型的错还是数据里没有答案？**
#
# [单车项目](../networks/bike_sharing.md)一章讲怎样把网络训练对。这里反过来：模型很小，很快训练好，
# 时间花在看数据和拆误差上。每一步先看图，再做一个决定。
#
# 默认用一段生成的数据，列名和单位照 UCI Bike Sharing 的 `hour.csv`，它的规律是写在代码里的，
# 所以解释对不对可以查。环境变量 `DATA_DIR` 的文件夹里有 `bike-sharing/hour.csv` 时，同样的代码读真实数据。

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

torch.set_num_threads(1)


# %% [markdown]
# ## 数据 {#data}
#
# 生成的规律：工作日有早晚两个高峰，周末午后一个缓坡；天暖人多，下雨人少；两年里需求在涨；
# 十二月二十二日以后人少一大半。每小时的数再按泊松分布抽。


# %%
def bump(hr: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Return a bell curve of height 1 over the hours."""
    return np.exp(-0.5 * ((hr - centre) / width) ** 2)


def wander(n: int, keep: float, rng: np.random.Generator) -> np.ndarray:
    """Return a series of variance 1 that keeps the share `keep` of itself at each step."""
    values = rng.standard_normal(n)
    for i in range(1, n):
        values[i] = keep * values[i - 1] + (1 - keep**2) ** 0.5 * values[i]
    return values


def generate(days: int = 731, seed: int = 0) -> pd.DataFrame:
    """Return hourly rentals with the columns of hour.csv that are used here; not real data."""
    rng = np.random.default_rng(seed)
    when = pd.date_range("2011-01-01", periods=24 * days, freq="h")
    table = pd.DataFrame({"date": when.normalize(), "hr": when.hour})
    table["weekday"] = (when.day_of_week + 1) % 7  # 0: Sunday
    table["workingday"] = (when.day_of_week < 5).astype(int)
    age = np.arange(24 * days) // 24
    front = wander(24 * days, 0.9, rng)  # high: rain
    season = np.cos(2 * np.pi * (age - 20) / 365.25)
    night = np.cos(2 * np.pi * (table["hr"] - 3) / 24)
    temp = 0.5 - 0.24 * season - 0.06 * night + 0.07 * wander(days, 0.8, rng)[age]
    table["temp"] = temp.clip(0.02, 1)
    table["hum"] = (0.6 + 0.15 * front + 0.1 * night).clip(0, 1)
    table["windspeed"] = (0.19 + 0.11 * wander(24 * days, 0.8, rng)).clip(0, 0.85)
    table["weathersit"] = 1 + sum((front > edge).astype(int) for edge in (0.45, 1.4, 3.6))
    hr = table["hr"].to_numpy()
    work = 25 + 65 * bump(hr, 13, 4) + 440 * bump(hr, 8, 0.8) + 470 * bump(hr, 17.6, 1.5)
    free = 30 + 360 * bump(hr, 13.8, 3.8) + 75 * bump(hr, 24, 2) + 75 * bump(hr, 0, 2)
    mean = np.where(table["workingday"], work, free) * (0.35 + 1.3 * table["temp"].clip(upper=0.75))
    mean *= np.array([1.0, 0.92, 0.55, 0.3])[table["weathersit"] - 1]
    mean *= np.where((when.month == 12) & (when.day >= 22), 0.35, 1.0)
    mean *= np.exp(0.5 * (age / 365.25 - 1) + 0.15 * wander(days, 0.97, rng)[age])
    table["cnt"] = rng.poisson(mean).clip(1)
    return table


def load() -> tuple[str, pd.DataFrame]:
    """Return the name of the data and the table: real hours where DATA_DIR has them."""
    file = Path(os.environ.get("DATA_DIR", "")) / "bike-sharing" / "hour.csv"
    if os.environ.get("DATA_DIR") and file.is_file():
        return "UCI Bike Sharing", pd.read_csv(file, parse_dates=["dteday"]).rename(
            columns={"dteday": "date"}
        )
    return "generated", generate()


NAME, table = load()
print(f"{NAME}: {len(table)} hours, {table['date'].nunique()} days")
print(
    table[["temp", "hum", "windspeed", "cnt"]]
    .describe()
    .loc[["mean", "std", "min", "max"]]
    .round(2)
)

# %% [markdown]
# ## 先看，再建模 {#look}
#
# 三个问题，三张图：一天里怎么走？两年里怎么走？一周前的同一小时，能说明多少？

# %% alt="两条曲线：工作日早上 8 点和傍晚 17、18 点各有一个尖峰，周末在午后有一个宽的缓坡" caption="一天里每小时的平均租用量，工作日和其他日子。"
profile = table.pivot_table("cnt", "hr", "workingday")
fig, ax = plt.subplots()
ax.plot(profile.index, profile[1], label="working day")
ax.plot(profile.index, profile[0], label="other day")
ax.margins(y=0.2)  # room for the legend above the peaks
ax.set(xlabel="hour", ylabel="mean rentals", ylim=0)
ax.legend(loc="upper left", ncols=2)
fig.tight_layout()
print(f"busiest hour: {profile[1].idxmax()} on working days, {profile[0].idxmax()} on others")

# %% [markdown]
# 决定一：小时不能当成一个数喂进去，8 点和 17、18 点高、12 点低，一条直线画不出来；用独热编码。
# 决定二：工作日和周末的形状不同，模型要能把小时和工作日**乘**起来，线性模型做不到。

# %% alt="每天租用量的点和七天平均线，冬低夏高，第二年整体高于第一年，末尾骤降" caption="每天的租用量（点）和 7 天平均（线）。虚线右边是测试集：最后 21 天。"
daily = table.groupby("date")["cnt"].sum()
first_test_day = daily.index[-21]
fig, ax = plt.subplots()
ax.plot(daily.index, daily, ".", markersize=2, color="0.6")
ax.plot(daily.index, daily.rolling(7).mean(), color="C0")
ax.axvline(first_test_day, color="C1", ls="--")
ax.set(ylabel="rentals a day", ylim=0)
ax.set_xticks(
    pd.to_datetime(["2011-01-01", "2011-07-01", "2012-01-01", "2012-07-01", "2013-01-01"])
)
ax.tick_params(axis="x", rotation=30)
fig.tight_layout()
years = table.groupby(table["date"].dt.year)["cnt"].mean()
print(f"mean rentals an hour: {years.loc[2011]:.0f} in 2011, {years.loc[2012]:.0f} in 2012")

# %% [markdown]
# 决定三：水平在涨，随机划分会让模型偷看到同一天的其他小时。测试集取最后 21 天，和真的去预报一样。
#
# ## 基线 {#baselines}
#
# 没有基线，一个误差说明不了什么。三条：总平均；工作日 × 小时的平均；上周同一小时。

# %%
test = (table["date"] >= first_test_day).to_numpy()
y = torch.tensor(table["cnt"].to_numpy(), dtype=torch.float32)
errors: dict[str, np.ndarray] = {}  # name -> prediction minus truth, on the test hours


def note(name: str, prediction: np.ndarray) -> None:
    """Keep a prediction's errors on the test hours and print its RMSE."""
    errors[name] = prediction[test] - table["cnt"].to_numpy()[test]
    print(f"{name:14} RMSE {np.sqrt((errors[name] ** 2).mean()):6.1f} bikes an hour")


seen = table[~test]
note("mean", np.full(len(table), seen["cnt"].mean()))
by_hour = seen.groupby(["workingday", "hr"])["cnt"].mean()
note(
    "hour profile", by_hour.loc[list(zip(table["workingday"], table["hr"], strict=True))].to_numpy()
)
before = table.assign(date=table["date"] + pd.Timedelta(days=7))[["date", "hr", "cnt"]]
last_week = table[["date", "hr"]].merge(before, on=["date", "hr"], how="left")["cnt"]
note("last week", last_week.fillna(seen["cnt"].mean()).to_numpy())

# %% [markdown]
# ## 小网络 {#network}
#
# 输入是小时、星期、天气的独热和温度、湿度、风速、日子的序号；一层 32 个 ReLU 单元；目标先标准化。
# 标准化的均值和标准差只用训练那一段算。3 个种子。


# %%
def inputs(table: pd.DataFrame, rows: np.ndarray) -> Tensor:
    """Return inputs (N, 40), the last four columns standardised by the hours in `rows`."""
    blocks = [
        F.one_hot(torch.tensor(table["hr"].to_numpy()).long(), 24),
        F.one_hot(torch.tensor(table["weekday"].to_numpy()).long(), 7),
        F.one_hot(torch.tensor(table["weathersit"].to_numpy()).long() - 1, 4),
        torch.tensor(table["workingday"].to_numpy())[:, None],
    ]
    plain = table[["temp", "hum", "windspeed"]].assign(
        age=(table["date"] - table["date"].min()).dt.days
    )
    plain = ((plain - plain[rows].mean()) / plain[rows].std()).to_numpy()
    return torch.cat([torch.cat(blocks, 1).float(), torch.tensor(plain).float()], dim=1)


def fit(X: Tensor, y: Tensor, rows: np.ndarray, seed: int, epochs: int = 12) -> np.ndarray:
    """Train on `rows` alone and return predictions for every hour, never negative."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(X.shape[1], 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    mean, std = y[rows].mean(), y[rows].std()
    index = torch.tensor(rows.nonzero()[0])
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - epoch / epochs)
        for batch in index[torch.randperm(len(index))].split(128):
            loss = F.mse_loss(net(X[batch]).squeeze(1), (y[batch] - mean) / std)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (net(X).squeeze(1) * std + mean).clamp(min=0).numpy()


X = inputs(table, ~test)
runs = np.stack([fit(X, y, ~test, seed) for seed in range(3)])
for seed, run in enumerate(runs):
    note(f"network {seed}", run)
network = runs.mean(0)
note("network mean", network)

# %% alt="横轴 21 天的日期，真实租用量和预测的曲线大部分重合，最后十天预测明显高于真实" caption="测试的 21 天：真实（灰）和三个网络的平均（蓝）。"
when = table["date"] + pd.to_timedelta(table["hr"], unit="h")
fig, ax = plt.subplots()
ax.plot(when[test], table["cnt"][test], color="0.6", lw=1, label="true")
ax.plot(when[test], network[test], lw=1, label="network")
ax.set(ylabel="rentals an hour", ylim=0)
ax.tick_params(axis="x", rotation=30)
ax.legend()
fig.tight_layout()

# %% [markdown]
# 网络的总误差比“工作日 × 小时的平均”和“上周同一小时”还大，三个种子都是。
# 只看总数，会得出“网络没用”；只看前十来天的图，会得出“网络很好”。两个结论都要等误差拆开以后再下。
#
# ## 把误差拆开 {#errors}
#
# 一个 RMSE 是所有小时的平均。拆成三份看：按小时、按天气、按日期。
# 每一份都同时看**偏差**（误差的平均，系统地高估还是低估）和**散布**（误差的标准差）。

# %% alt="上图横轴是日期，柱子是每天的平均误差，前十来天在零附近，最后十天全是正的大柱；下图按小时，正误差集中在白天" caption="平均误差（预测减真实）：上按日期，下按小时。正的是高估。"
error = pd.Series(errors["network mean"], index=table.index[test])
by_day, by_clock = (error.groupby(table.loc[test, key]).mean() for key in ("date", "hr"))
fig, axes = plt.subplots(2, 1, figsize=(4.8, 5.0))
axes[0].bar(range(len(by_day)), by_day, color="C0")
axes[0].set(xlabel="day of the test set", ylabel="mean error")
axes[1].bar(by_clock.index, by_clock, color="C1")
axes[1].set(xlabel="hour", ylabel="mean error")
fig.tight_layout()

late = ((table["date"].dt.month == 12) & (table["date"].dt.day >= 22)).to_numpy()
for name, days in {"before 22 December": ~late, "from 22 December on": late}.items():
    e = error[days[test]]
    print(
        f"{name:20} bias {e.mean():+7.1f}   spread {e.std():6.1f}   RMSE {np.sqrt((e**2).mean()):6.1f}"
    )

# %% [markdown]
# 误差不是均匀的：最后十天是大片的高估，此前的误差只有它的一小部分，也小于任何一条基线的总误差。
# 这十天把总数拖垮了。是模型不好，还是它没有办法知道？看训练集里同样的日子：

# %%
fitted = pd.Series(network - table["cnt"].to_numpy())
december = (table["date"].dt.month == 12).to_numpy() & ~late
print(f"training hours, other December days: bias {fitted[~test & december].mean():+.1f}")
print(f"training hours, 22 to 31 December:   bias {fitted[~test & late].mean():+.1f}")

# %% [markdown]
# 训练集里的年底也被高估：输入里没有一列能说出“年底”，一年前的那十天被当成了普通的冬天。
# 这不是再训练久一点能解决的事，是特征的事。加一列再跑：

# %%
flagged = torch.cat([X, torch.tensor(late)[:, None].float()], dim=1)
with_flag = np.stack([fit(flagged, y, ~test, seed) for seed in range(3)])
note("with year end", with_flag.mean(0))

# %% [markdown]
# ## 剩下的误差，有多少能消掉 {#floor}
#
# 计数本身有噪声：平均是 $\lambda$ 的泊松数，标准差是 $\sqrt{\lambda}$。把预测当成 $\lambda$，
# 就得到“模型完美时也剩下”的误差的一个估计。

# %%
floor = np.sqrt(with_flag.mean(0)[test].mean())
rest = np.sqrt((errors["with year end"] ** 2).mean())
print(f"noise of the counts alone: about {floor:.1f}; the model's RMSE: {rest:.1f}")
weather = pd.Series(errors["with year end"], index=table.index[test]).groupby(
    table.loc[test, "weathersit"]
)
print(weather.agg(["count", "mean", "std"]).round(1))

# %% [markdown]
# 两者之间的距离，是需求水平的漂移、模型的误差和没有记下来的原因。只看这 21 天，分不清各占多少；
# 换几段不同的 21 天再测，才知道这个距离有多稳。
#
# ## 真实数据上 {#real}
#
# 下面是[单车项目](../networks/bike_sharing.md)一章在真实数据上记下的结果。网络和这里的不同，问题是同一个：
#
# <!-- record: bike_sharing.project -->
# <!-- constant: 总平均，测试 RMSE -->
# <!-- last_week: 上周同一小时 -->
# <!-- linear: 线性回归 -->
# <!-- net: 网络 -->
# <!-- before: 网络，12 月 22 日以前 -->
# <!-- late: 网络，12 月 22 日起 -->
# <!-- flag: 加上“年底”一列 -->
# <!-- flag_late: 加上以后，12 月 22 日起 -->
#
# ## 接着试 {#next}
#
# 1. 把测试集换成 2012 年 7 月的 21 天（只用此前的数据训练）。误差还集中在某几天吗？
# 2. 目标换成 $\log(1 + y)$。低谷和高峰的误差各变多少？
# 3. 去掉“工作日”一列，只留星期。网络自己能学出来吗？线性回归呢？
# 4. 把“上周同一小时”作为一个输入加进网络。它把漂移补上了多少？
# 5. 生成的规律里 0.35 倍的年底改成 0.7 倍，加那一列还值得吗？
