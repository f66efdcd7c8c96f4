# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Songs in a notebook
#
# After `make demo`, from the root of the checkout: embed, search and plot in ten lines. `pip install -e '.[notebook]'`
# brings matplotlib and Jupyter. This notebook was made by `make notebook`.

# %%
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.manifold import TSNE

from htcl import PublishedSongs

songs = PublishedSongs("workspace/demo/workspace")
pd.DataFrame(songs.search("slow sad waltz on a harp", k=5))

# %% [markdown]
# Songs that the same listeners will like:

# %%
pd.DataFrame(songs.similar("T000003", k=5))

# %% [markdown]
# Any sound file, also one that nobody has played yet:

# %%
vectors = songs.embed(["workspace/demo/world-600-7/audio/04/T000004.flac"])
pd.DataFrame(songs.nearest(vectors, k=5)[0])

# %% [markdown]
# All songs, on a map:

# %%
catalog, vectors = songs.embeddings()
places = TSNE(metric="cosine", init="random", random_state=0).fit_transform(vectors)
for genre, rows in pd.DataFrame(catalog).groupby("genre").groups.items():
    plt.scatter(*places[rows].T, s=8, label=genre or "none")
plt.axis("off")
plt.legend(markerscale=2, bbox_to_anchor=(1, 1))
plt.show()
