"""Figures: `convergence` draws traces, `simplex` and `strategy` policies, `save` writes files.

Matplotlib is imported when a figure is first drawn.
"""

from mpo_games.plot.drawings import convergence as convergence
from mpo_games.plot.drawings import heatmap as heatmap
from mpo_games.plot.drawings import label_ends as label_ends
from mpo_games.plot.files import save as save
from mpo_games.plot.files import save_animation as save_animation
from mpo_games.plot.looks import BLACK as BLACK
from mpo_games.plot.looks import BLUE as BLUE
from mpo_games.plot.looks import BROWN as BROWN
from mpo_games.plot.looks import CRIMSON as CRIMSON
from mpo_games.plot.looks import DASH_DOTTED as DASH_DOTTED
from mpo_games.plot.looks import DASHED as DASHED
from mpo_games.plot.looks import DOTTED as DOTTED
from mpo_games.plot.looks import GREEN as GREEN
from mpo_games.plot.looks import GREY as GREY
from mpo_games.plot.looks import INDIGO as INDIGO
from mpo_games.plot.looks import MAGENTA as MAGENTA
from mpo_games.plot.looks import OLIVE as OLIVE
from mpo_games.plot.looks import ORANGE as ORANGE
from mpo_games.plot.looks import PURPLE as PURPLE
from mpo_games.plot.looks import SAND as SAND
from mpo_games.plot.looks import SKY as SKY
from mpo_games.plot.looks import SOLID as SOLID
from mpo_games.plot.looks import STYLES as STYLES
from mpo_games.plot.looks import VERMILLION as VERMILLION
from mpo_games.plot.looks import WINE as WINE
from mpo_games.plot.looks import Dash as Dash
from mpo_games.plot.looks import Style as Style
from mpo_games.plot.looks import own_looks as own_looks
from mpo_games.plot.looks import style as style
from mpo_games.plot.looks import theme as theme
from mpo_games.plot.strategies import preferences as preferences
from mpo_games.plot.strategies import strategy as strategy
from mpo_games.plot.triangles import field as field
from mpo_games.plot.triangles import simplex as simplex
