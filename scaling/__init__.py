"""How much capital each instrument can carry: efficiency models and allocation. Stands alone on numpy, scipy,
SQLAlchemy."""

from scaling.engine import EngineConfig, PredictiveScalingEngine
from scaling.errors import Infeasible, InvalidQuery, InvalidRecord, NotEnoughData, ScalingError, StoreError
from scaling.initializer import ScalingInitializer
from scaling.managers import (
    AnalyticsManager,
    BalanceManager,
    DefaultAnalyticsManager,
    DefaultBalanceManager,
    DefaultRiskManager,
    DefaultStrategyOrchestrator,
    Move,
    RiskLimits,
    RiskManager,
    StrategyAdvice,
    StrategyOrchestrator,
)
from scaling.model import PredictiveModel
from scaling.prior import ImpactPrior
from scaling.results import Allocation, EfficiencyPrediction, ModelMetrics, Reason
from scaling.saturation import SaturationPoint, SaturationPoints
from scaling.store import ScalingStore, TranscendentalDatabase

__all__ = [
    "Allocation",
    "AnalyticsManager",
    "BalanceManager",
    "DefaultAnalyticsManager",
    "DefaultBalanceManager",
    "DefaultRiskManager",
    "DefaultStrategyOrchestrator",
    "EfficiencyPrediction",
    "EngineConfig",
    "ImpactPrior",
    "Infeasible",
    "InvalidQuery",
    "InvalidRecord",
    "ModelMetrics",
    "Move",
    "NotEnoughData",
    "PredictiveModel",
    "PredictiveScalingEngine",
    "Reason",
    "RiskLimits",
    "RiskManager",
    "SaturationPoint",
    "SaturationPoints",
    "ScalingError",
    "ScalingInitializer",
    "ScalingStore",
    "StoreError",
    "StrategyAdvice",
    "StrategyOrchestrator",
    "TranscendentalDatabase",
]
